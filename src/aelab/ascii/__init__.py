"""The second medium: images made of characters. A wing, which nothing else imports.

What it brings stands in `pyproject.toml` as entry points, as a stranger's package would do it. It
may use every room of the house.
"""
