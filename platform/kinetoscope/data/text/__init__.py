"""Captions and prompts as text: cleaning, prompt syntax, mask strategies, file names."""
