"""Pipeline component of the video VAE's stages."""
