"""The second medium: images made of characters. An optional part that nothing else imports.

It is registered in `pyproject.toml` by entry points, like an external package. It may import every
other package of aelab.
"""
