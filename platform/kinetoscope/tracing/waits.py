"""Where a micro-batch would make the host wait for a GPU, found on a device that is made up.

Fake tensors on the CPU can't tell what is on the device from what is not. Torch has a device type
for backends of others (``PrivateUse1``), on which fake tensors run backward too: the model is built
there, and what comes from the host, goes to it, or depends on values is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from kinetoscope.core.errors import ConfigError
from kinetoscope.tracing.host_reads import HostRead, HostReads, place_of_call
from kinetoscope.training.engine.base import Objective, Tensors

_DEVICE = "madeup"
_FROM_DATA = {torch.tensor, torch.as_tensor, Tensor.new_tensor}


@contextmanager
def made_up_device() -> Iterator[torch.device]:
    """Make tensors fake, and make the device up; objectives are built and run inside.

    Modules are put on it by ``with device:``.
    A process enters this once before its first backward pass, at which torch counts devices.

    Raises:
        ConfigError: this version of torch can't make a device up.
    """
    device = _made_up()
    # While modules are built, numbers may come from the host.
    with FakeTensorMode(), _HostData(HostReads(_DEVICE)):
        yield device


def waits_of(objective: Objective, tensors: Tensors) -> list[HostRead]:
    """Return the waits of forward and backward pass of one micro-batch.

    Args:
        objective: with fake weights on the made-up device.
        tensors: of the batch, there too.
    """
    reads = HostReads(_DEVICE)
    with _HostData(reads), reads:
        objective(tensors)["loss"].float().sum().backward()
    return reads.found


class _HostData(TorchFunctionMode):
    """Finds tensors that are made of Python's numbers right on the device."""

    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self._found = reads.found

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch."""
        options = dict(kwargs or {})
        if func not in _FROM_DATA:
            return func(*args, **options)
        source = args[0] if func is Tensor.new_tensor else None
        device = options.pop("device", None) or getattr(source, "device", "cpu")
        if torch.device(device).type != _DEVICE:
            return func(*args, **(kwargs or {}))
        self._found.append(HostRead("copy from the host", place_of_call()))
        data = args[0] if source is None else args[1]
        dtype = options.get("dtype") or (None if source is None else source.dtype)
        there = torch.tensor(data, dtype=dtype)
        return torch.empty(there.shape, dtype=there.dtype, device=device)


class _Backend:
    """What torch asks the module of a device type for."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        del seed

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


@cache
def _made_up() -> torch.device:
    try:
        from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
    except ImportError as error:
        raise ConfigError(
            f"torch {torch.__version__} can't make a device up",
            hint="trace waits in the default environment (torch 2.9 or later)",
        ) from error
    _setup_privateuseone_for_python_backend(_DEVICE, backend_module=_Backend())
    return torch.device(_DEVICE)
