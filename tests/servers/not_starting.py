"""Prints a secret of its environment and its arguments to stderr, and ends."""
# ruff: noqa: T201

import os
import sys

print("reading the configuration", file=sys.stderr)
sys.exit(f"refused: token {os.environ['TOKEN']} and {sys.argv[1]} are not valid")
