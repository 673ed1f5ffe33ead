"""What the tasks of the pipeline call: the first one, the steps, and the exit handler."""
