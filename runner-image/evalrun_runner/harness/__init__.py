"""lmms-eval, as the runner drives it: tasks, backends, requests, and its own evaluation."""
