"""Where the host waits for a device, or depends on what is in a tensor.

Reading one value off a GPU, or a result whose size its values decide, makes the host wait until
all that was asked for is done. Torch tags the operators of both kinds; fake tensors have no values,
so their answers are made up and the trace goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor

from kinetoscope.tracing.operator_mode import OperatorMode

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


class HostReads(OperatorMode):
    """Finds every wait inside the context.

    Args:
        device_type: of the tensors that stand for a device's; "cpu" takes all tensors for such.

    Attributes:
        found: so far, in order.
    """

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.found: list[HostRead] = []
        self._device_type = device_type

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator, or make its answer up."""
        # Asking a fake tensor for its device costs as much as an operator: only where it matters.
        kind = _kind_of(func)
        if kind is None or not (args and isinstance(args[0], Tensor)):
            return func(*args, **(kwargs or {}))
        first = args[0]
        there = first.device.type == self._device_type
        if kind == "copies":
            output = func(*args, **(kwargs or {}))
            if output.device != first.device:
                self._note("copy to the host" if there else "copy from the host")
            return output
        mask = _mask(func, args)
        if there and (mask is not None or kind != "indexes"):
            self._note(func.overloadpacket.__name__)
            if isinstance(first, FakeTensor):
                if mask is not None and mask.shape == first.shape[: mask.dim()]:
                    # As if all of it were True.
                    return first.new_empty((mask.numel(), *first.shape[mask.dim() :]))
                if kind == "reads":
                    return _truth(first.dtype)
        return func(*args, **(kwargs or {}))

    def _note(self, operator: str) -> None:
        self.found.append(HostRead(operator, place_of_call()))


def _truth(dtype: torch.dtype) -> bool | int | float:
    """Return what a value read off a fake tensor is."""
    if dtype is torch.bool:
        return True
    return 1.0 if dtype.is_floating_point else 1


@cache
def _kind_of(operator: OpOverload) -> Literal["copies", "indexes", "reads", "sized"] | None:
    name = operator.overloadpacket.__name__
    if name == "_to_copy":
        return "copies"
    if name == "index":
        return "indexes"
    if torch.Tag.data_dependent_output in operator.tags:
        return "reads"
    return "sized" if torch.Tag.dynamic_output_shape in operator.tags else None


def _mask(operator: OpOverload, args: Sequence[Any]) -> Tensor | None:
    """Return the first mask by which an operator chooses elements; None where there is none."""
    name = operator.overloadpacket.__name__
    chosen = args[1] if name == "index" else args[1:2] if name == "masked_select" else ()
    masks = (x for x in chosen if isinstance(x, Tensor) and x.dtype in _MASKS)
    return next(masks, None)


def place_of_call() -> str:
    """Return ``file:line`` of the innermost call of our own modules, or ``backward``."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PACKAGE) and not name.startswith(_OWN):
            return f"{Path(name).relative_to(_PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back
    return "backward"
