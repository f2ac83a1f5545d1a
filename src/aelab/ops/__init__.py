"""Pure tensor functions that several rooms need: resize, crops, keyed random numbers.

Knows errors and types; must not know data sets, models or runs.
"""
