"""Models that read and write characters."""
