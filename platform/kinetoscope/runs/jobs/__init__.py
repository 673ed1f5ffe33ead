"""The training jobs of a run on a cluster: who launches them, and what is told of them."""
