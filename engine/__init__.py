"""The domain of Kairos, pure: no I/O, no clock, no dice."""
