"""What people look at: tables, plots, pages.

Reads run directories and nothing else; works without torch and on half-finished runs.
"""
