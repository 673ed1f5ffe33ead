"""The one typed config of a run, its recipes, and the pieces that its steps get."""
