"""Keys, limits, and the gate that every request passes."""
