"""Where images come from: one file a source, and what reads files for them."""
