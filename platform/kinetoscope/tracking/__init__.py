"""MLflow: runs, curves and model versions. The only area that imports mlflow, inside functions."""
