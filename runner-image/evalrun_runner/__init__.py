"""What runs in the pods, and on a laptop: prepare, answer and score over one plan."""
