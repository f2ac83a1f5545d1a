"""Statistics of curves and runs: trends, repeats, settings without effect.

Reads rows and records as plain lists and dictionaries; knows no models, writes no files.
"""
