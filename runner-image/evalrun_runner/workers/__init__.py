"""Several processes that answer in one pod, and what becomes of them."""
