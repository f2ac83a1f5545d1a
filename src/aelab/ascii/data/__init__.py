"""Sets of ASCII pictures: made of files, of packages, of fonts, and of other pictures."""
