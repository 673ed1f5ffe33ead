"""Video files, and windows of clips."""
