"""The local web page: runs while they train, their curves and pictures, and their latent spaces.

Reads the store and never writes into it. Knows `lab`, `report` and `runs`; must not know how
anything is trained.
"""
