"""Where the host waits for a device, or depends on what is in a tensor.

Reading one value off a GPU, or a result whose size its values decide, makes the host wait until
all that was asked for is done. Operators of both kinds are found by name; fake tensors have no
values, so their answers are made up and the trace goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

_READS = {"_local_scalar_dense", "is_nonzero", "equal"}
_SIZED_BY_VALUES = {"nonzero", "unique_dim", "_unique2", "unique_consecutive", "bincount"}
_LOOKED_AT = {*_READS, *_SIZED_BY_VALUES, "masked_select", "index", "_to_copy"}
_MASKS = (torch.bool, torch.uint8)
_PACKAGE = str(Path(__file__).resolve().parents[1])
_OWN = str(Path(__file__).resolve().parent)


@dataclass(frozen=True, slots=True)
class HostRead:
    """One time that the host has to wait.

    Attributes:
        operator: what it waits for.
        place: ``file:line`` of the innermost of our own modules, from the package down.
    """

    operator: str
    place: str


class HostReads(TorchDispatchMode):
    """Finds every wait inside the context.

    Args:
        device_type: of the tensors that stand for a device's; "cpu" takes all tensors for such.
        count: what a whole number read off a fake tensor is; any other is 1.

    Attributes:
        found: so far, in order.
    """

    def __init__(self, device_type: str, *, count: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._count = count
        self.found: list[HostRead] = []
        self._device_type = device_type

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here, and torch's guard against it takes as long as an operator.
        return False

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator, or make its answer up."""
        name = func.overloadpacket.__name__
        # Asking a fake tensor for its device costs as much as an operator: only where it matters.
        if name not in _LOOKED_AT or not (args and isinstance(args[0], Tensor)):
            return func(*args, **(kwargs or {}))
        first = args[0]
        there = first.device.type == self._device_type
        if name == "_to_copy":
            output = func(*args, **(kwargs or {}))
            if output.device != first.device:
                self._note("copy to the host" if there else "copy from the host")
            return output
        mask = _mask(name, args)
        if there and (mask is not None or name != "index"):
            self._note(name)
            if isinstance(first, FakeTensor):
                if mask is not None:
                    # As if all of it were True.
                    return first.new_empty((mask.numel(), *first.shape[mask.dim() :]))
                if name in _READS:
                    return self._answer(first.dtype)
        return func(*args, **(kwargs or {}))

    def _answer(self, dtype: torch.dtype) -> bool | int | float:
        if dtype is torch.bool:
            return True
        return 1.0 if dtype.is_floating_point else self._count

    def _note(self, operator: str) -> None:
        self.found.append(HostRead(operator, place_of_call()))


def _mask(name: str, args: Sequence[Any]) -> Tensor | None:
    """Return the mask by which an operator chooses elements; None where there is none."""
    if name == "masked_select":
        mask: Tensor = args[1]
        return mask
    if name != "index" or not args[1]:
        return None
    chosen = args[1][0]
    return chosen if isinstance(chosen, Tensor) and chosen.dtype in _MASKS else None


def place_of_call() -> str:
    """Return ``file:line`` of the innermost call of our own modules, or ``backward``."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PACKAGE) and not name.startswith(_OWN):
            return f"{Path(name).relative_to(_PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back
    return "backward"
