"""Checks before training: the runs of a file, their problems, their cost."""
