"""Discriminators, and the game that a VAE plays against one."""
