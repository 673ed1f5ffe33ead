"""Where models run, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kinetoscope.models.config import Precision, PrecisionSetting


@dataclass(frozen=True, slots=True)
class Compute:
    """Where a process computes, and in which precision.

    Attributes:
        device: of the models.
        precision: of what they compute; their weights are fp32 always.
    """

    device: torch.device
    precision: Precision

    @property
    def dtype(self) -> torch.dtype:
        """Of what layers give on, and of the weights of networks that are only used."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def autocast(self) -> torch.autocast:
        """Return the context in which models compute in this precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


ON_CPU = Compute(torch.device("cpu"), "fp32")
"""The CPU, exactly."""


def begin_computing(setting: PrecisionSetting, local_rank: int = 0) -> Compute:
    """Return where and in which precision this process computes from now on.

    Whether GPUs may round to TF32 is decided for the whole process here, for products of matrices
    and for convolutions alike; torch's own default is no for the former and yes for the latter.

    Args:
        setting: what was asked for.
        local_rank: number of the process on its machine.
    """
    device = compute_device(local_rank)
    compute = Compute(device, chosen_precision(setting, device.type))
    # What autocast leaves in float32 beside bfloat16 is no more exact than TF32 for it.
    allow_tf32(compute.precision != "fp32")
    return compute


def compute_device(local_rank: int = 0) -> torch.device:
    """Return the rank's GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def chosen_precision(setting: PrecisionSetting, device_type: str) -> Precision:
    """Return the precision that a setting means on a type of device."""
    if setting == "auto":
        return "bf16" if device_type == "cuda" else "fp32"
    return setting


def allow_tf32(allowed: bool) -> None:
    """Let GPUs round the factors of float32 products and convolutions to ten bits, or not."""
    # Later torch has other names for it and refuses a mixture; 2.5 knows these alone.
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
