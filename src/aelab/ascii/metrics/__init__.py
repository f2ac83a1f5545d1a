"""Metrics of models that write characters."""
