"""Code that only repeats what Open-Sora 1.2 does and nothing of ours needs."""
