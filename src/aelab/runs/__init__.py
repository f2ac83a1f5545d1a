"""The store: one directory a run, plain files, readable without aelab.

Writes the bytes others make; knows nothing of models or tensors. `store` finds and makes runs,
`record` is one run, `checkpoints` its kept states, `ledger` its metrics, `atomic` the writing.
"""
