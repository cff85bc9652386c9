"""The journal: every answer, kept the moment it is there, and read back."""
