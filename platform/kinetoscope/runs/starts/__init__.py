"""The starts of a run: what each notes in a folder of its own, and whether its host lives."""
