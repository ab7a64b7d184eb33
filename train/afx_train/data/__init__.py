"""Training data: hand-written phrasings, filled with values that exist, proven on real servers."""
