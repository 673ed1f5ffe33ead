"""In which dtypes models compute where autocast is not to choose."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def autocasts(device_type: str) -> bool:
    """Tell whether autocast is on for a type of device."""
    # Meta and other devices without autocast refuse the second question.
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def as_told(device_type: str) -> AbstractContextManager[object]:
    """Return a context in which operations compute in the dtypes that they are given."""
    return torch.autocast(device_type, enabled=False) if autocasts(device_type) else nullcontext()


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that sums of numbers of a dtype are made in, float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def widened(x: Tensor) -> Tensor:
    """Return a tensor in the dtype of its sums."""
    return x.to(sum_dtype(x.dtype))
