"""Numbers about models that write."""
