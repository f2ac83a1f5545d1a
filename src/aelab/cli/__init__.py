"""The command line: verbs call `aelab.lab`. The only package that prints or exits.

Slow packages are imported inside the verb that needs them, so that `aelab --help` stays fast.
"""
