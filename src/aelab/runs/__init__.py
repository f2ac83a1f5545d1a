"""The store: one directory for each run, with plain files that can be read without aelab.

Stores bytes made elsewhere; does not know models or tensors. `store` finds and makes runs,
`record` is one run, `checkpoints` its kept states, `ledger` its metrics, `atomic` the writing.
"""
