"""Evaluation and figures of stored runs; `reopen.reopen_run` opens one with its model."""
