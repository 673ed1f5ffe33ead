"""TrainJobs: asked for, submitted, watched, read."""
