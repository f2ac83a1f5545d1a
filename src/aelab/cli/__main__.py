"""`python -m aelab.cli`."""

from aelab.cli.main import main

main()
