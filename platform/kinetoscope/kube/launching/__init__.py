"""Training as TrainJobs: what a step's launcher does from its first look to the job's end."""
