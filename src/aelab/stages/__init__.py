"""A wing: second stages. The codes of a stored run as a data set, and models of their distribution.

It enters through entry points; nothing imports it.
"""
