"""Pipeline component of the evaluate_dit step."""
