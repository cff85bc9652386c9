"""The control plane: plans runs, starts their Jobs, tells how they fare."""
