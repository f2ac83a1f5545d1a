"""One run from its text to its directory, and a matrix of them, one after the other.

matrix.run_matrix    the runs of a file in order
session.train_run    one of them: build, continue or begin, train, store
"""
