"""Trains one run into its directory, and the runs of a matrix.

matrix.run_matrix    the runs of a file in order
session.train_run    one of them: build, continue or begin, train, store
"""
