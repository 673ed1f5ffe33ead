"""Pipeline component of the register_model step."""
