"""Pipeline component of the exit handler."""
