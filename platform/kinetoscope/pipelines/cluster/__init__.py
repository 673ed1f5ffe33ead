"""The pipeline on a Kubeflow backend: what its pods get, how it is submitted and followed."""
