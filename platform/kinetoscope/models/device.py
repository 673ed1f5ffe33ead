"""Where models run."""

from __future__ import annotations

import torch


def compute_device(local_rank: int = 0) -> torch.device:
    """Return the rank's GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
