"""YAML of configs and of clusters' objects: read in one way, or refused with file, line and key."""
