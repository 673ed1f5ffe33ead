"""Pipeline component of the encode_latents step."""
