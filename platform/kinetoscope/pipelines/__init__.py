"""The Kubeflow pipeline of a run, and how it is run on this machine."""
