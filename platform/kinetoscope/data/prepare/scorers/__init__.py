"""What is measured of a clip."""
