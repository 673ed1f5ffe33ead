"""Open-Sora 1.2's released layout, and the layouts that it starts from."""
