"""The control plane's benchmark: `make bench-control`. See `__main__` for what it measures."""
