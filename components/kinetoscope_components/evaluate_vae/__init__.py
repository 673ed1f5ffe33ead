"""Pipeline component of the evaluate_vae step."""
