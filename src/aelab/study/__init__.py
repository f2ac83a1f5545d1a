"""What can be asked of a stored run: `reopen.reopen_run` gives it with its trained model."""
