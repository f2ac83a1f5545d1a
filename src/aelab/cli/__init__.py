"""The command line: verbs become calls of `aelab.lab`. The only room that prints or exits.

Heavy rooms are imported inside the verb that needs them, so that `aelab --help` stays instant.
"""
