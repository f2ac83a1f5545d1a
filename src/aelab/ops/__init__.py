"""Pure tensor functions used by several rooms: resize, crops, keyed random numbers.

May import errors and types; must not know data sets, models or runs.
"""
