"""Kinetoscope trains, evaluates and ships Open-Sora-class text-to-video models."""

__version__ = "0.1.0"
