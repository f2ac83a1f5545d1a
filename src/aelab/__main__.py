"""`python -m aelab`."""

from aelab.cli.main import main

main()
