"""What a run is: its steps and their identity, its records, and what is told of them."""
