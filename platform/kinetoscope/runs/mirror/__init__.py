"""The copy of a run's records in MLflow, kept by whoever works for the run."""
