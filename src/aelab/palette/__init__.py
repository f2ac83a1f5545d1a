"""The third medium: pictures in few colours, as indices into a palette. A wing nothing imports.

It is registered in `pyproject.toml` by entry points, like an external package. It may import every
other package of aelab.
"""
