"""Judges: a proxy that records what they say, so that each verdict is bought once."""
