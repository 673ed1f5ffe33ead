"""Kubeflow Pipelines wrappers of the steps: one thin component per step, no logic."""
