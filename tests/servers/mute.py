"""Reads forever, writes a line that is not JSON, and never speaks MCP."""
# ruff: noqa: T201

import sys

print("Welcome to my server!", flush=True)
sys.stdin.read()
