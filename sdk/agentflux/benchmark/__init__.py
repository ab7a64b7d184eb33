"""`afx bench`: what a bundle costs on this machine, in time, tokens, memory and energy."""
