"""Losses of written characters: on the characters, and on pictures of them."""
