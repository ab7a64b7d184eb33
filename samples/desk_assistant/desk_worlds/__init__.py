"""Scratch workspaces for the sample's five tool sets, and the values that exist in them."""
