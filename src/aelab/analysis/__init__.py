"""Statistics of curves and runs: trends, repeats, settings without effect.

Reads rows and records as plain lists and dictionaries; uses no models, writes no files.
"""
