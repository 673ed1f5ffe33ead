"""Causal convolutions, and norm, activation and convolution in one function."""
