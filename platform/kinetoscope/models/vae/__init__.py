"""The video VAE: spatial, temporal, and both as one model."""
