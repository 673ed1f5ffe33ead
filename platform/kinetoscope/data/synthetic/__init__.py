"""The procedural set of moving shapes: its words, its pictures, and how they are read back."""
