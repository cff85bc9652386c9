"""Asking a model for what the journal lacks, and knowing what its answers are worth."""
