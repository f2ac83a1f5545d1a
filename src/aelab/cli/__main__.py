"""`python -m aelab.cli`."""

from aelab.cli.main import main

if __name__ == "__main__":
    main()
