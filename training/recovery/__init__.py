"""Six simulated weeks of cart recovery: the engine beside nobody's offers, fixed rules, and an oracle."""
