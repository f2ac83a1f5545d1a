"""Images that come with aelab; the licence of each file lies beside it."""
