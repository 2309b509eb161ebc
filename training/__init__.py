"""Learning: the conversion model, its card and its registry."""
