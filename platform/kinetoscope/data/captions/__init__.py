"""Captions from the files beside the videos."""
