"""What can be known before training: the runs of a file, what is wrong with them, their cost."""
