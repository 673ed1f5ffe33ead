"""Typed access to what steps leave."""
