"""What a training step would cost on a GPU, found on a machine without one."""
