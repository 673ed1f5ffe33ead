"""Latents, and training of the diffusion transformer on them."""
