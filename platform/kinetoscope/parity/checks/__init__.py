"""One module per family of golden files."""
