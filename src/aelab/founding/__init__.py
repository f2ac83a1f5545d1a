"""What only the founding documents need, and files of the program they were written with.

A wing, which nothing imports. What it brings stands in `pyproject.toml` as entry points, as a
stranger's package would do it. It may use every room of the house.
"""
