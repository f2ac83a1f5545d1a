"""Checks before training, and the diagnosis when losses or weights stop being finite.

The loop calls one object, `guard.guard.Guard`; the rest finds where a number stopped being
finite, why, and what to type. Must not know how a model learns or where results are written.
"""
