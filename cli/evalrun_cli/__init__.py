"""The `evalrun` command: runs on this machine, their plans and their results."""
