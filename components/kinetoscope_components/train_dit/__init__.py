"""Pipeline component of the diffusion transformer's stages."""
