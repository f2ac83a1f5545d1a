"""Sets of ASCII pictures from files, installed packages, fonts and other pictures."""
