"""Pipeline component of the prepare_data step."""
