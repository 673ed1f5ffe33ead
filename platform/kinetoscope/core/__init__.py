"""Errors, units, ids, hashing and counter-based random keys. Imports nothing else of ours."""
