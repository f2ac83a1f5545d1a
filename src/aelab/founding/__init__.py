"""Parts needed only for the founding documents and for files of their program.

An optional part that nothing imports. It is registered in `pyproject.toml` by entry points, like an
external package. It may import every other package of aelab.
"""
