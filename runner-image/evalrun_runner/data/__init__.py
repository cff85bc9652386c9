"""Documents and weights: how they reach a step, checked and packed."""
