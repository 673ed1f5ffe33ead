"""A minute's training that shows whether a cluster can train."""
