"""Pipeline component of the train_spatial_vae step."""
