"""Weights in 4 and 8 bits: how a matrix is cut into codes, and how a graph takes them."""
