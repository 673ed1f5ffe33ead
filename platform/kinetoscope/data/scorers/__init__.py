"""What is measured of a clip: a module a score, which is all that a new one needs."""
