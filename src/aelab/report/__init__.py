"""Tables, plots and pages of runs.

Reads only run directories; works without torch and on unfinished runs.
"""
