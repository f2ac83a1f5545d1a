"""What is refused before training, and what happens when its numbers end.

The loop calls one object at its points, `guard.guard.Guard`; the rest says where a number stopped
being finite, why, and what to type. Must not know how a model learns or where results are written.
"""
