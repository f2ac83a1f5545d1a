"""Builds a run's parts from its text, and checks them before any image is read.

Shared by forecasting, training and studying a run: `parts.build` evaluates its blocks;
`data_checks`, `number_checks` and `rehearsal` find mistakes; `place` and `stored_state` give the
folders that a stored run reads from and the state it continues with.
"""
