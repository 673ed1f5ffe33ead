"""Training of the spatial and the video VAE."""
