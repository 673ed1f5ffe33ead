"""Bytes of live tensors by kind, and operations, as torch's operators run.

What is followed is storages, which views share, from the operator that first returns one until the
last tensor on it dies. Tensors may be fake (`torch._subclasses.FakeTensorMode`): then a step of any
size is followed on any machine.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor

from kinetoscope.tracing.flops import flops_of
from kinetoscope.tracing.operator_mode import OperatorMode

Kind = Literal[
    "weights", "gradients", "optimizer", "average", "inputs", "casts", "activations", "temporaries"
]
"""``casts`` are copies of weights in a lower precision; ``activations`` what forward made, to keep
or to pass on; ``temporaries`` what is made later."""

KINDS: tuple[Kind, ...] = get_args(Kind)

_DEVICE = torch.ops.prim.device.default

ALIGNMENT_BYTES = 512
"""Sizes are rounded up to this, as torch's CUDA allocator does."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment at which most bytes were live.

    Attributes:
        bytes_by_kind: they add up to the peak.
        operator: the one that ran.
    """

    bytes_by_kind: Mapping[Kind, int]
    operator: str

    @property
    def total_bytes(self) -> int:
        """All bytes that were live."""
        return sum(self.bytes_by_kind.values())


class Tracker(OperatorMode):
    """Follows what runs inside the context.

    Args:
        alignment_bytes: sizes of storages are rounded up to its multiples.

    Attributes:
        flops: of the phase so far.
        peak: of the phase so far.
    """

    def __init__(self, *, alignment_bytes: int = ALIGNMENT_BYTES) -> None:
        super().__init__()
        self._new_kind: Kind = "temporaries"
        self.flops = 0.0
        self._alignment = alignment_bytes
        self._live: dict[int, tuple[weakref.ref[Any], int, Kind]] = {}
        self._bytes: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._total = 0
        self.peak = Peak(dict(self._bytes), "")

    @property
    def live_bytes(self) -> Mapping[Kind, int]:
        """Bytes that are live now, by kind."""
        return dict(self._bytes)

    def mark(self, tensors: Iterable[Tensor], kind: Kind) -> None:
        """Say what tensors are, whether they were followed before or not."""
        for tensor in tensors:
            self._forget(tensor.untyped_storage()._cdata)
            self._follow(tensor, kind, "")

    def begin(self, new_kind: Kind) -> None:
        """Begin a phase: its operations and its peak are counted from now on.

        Args:
            new_kind: of storages that are made in it.
        """
        self._new_kind = new_kind
        self.flops = 0.0
        self.peak = Peak(dict(self._bytes), "")

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator; see whether it made storages."""
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            # Most of all calls; torch's own answer takes as long as an operator.
            return args[0].fake_device
        output = func(*args, **(kwargs or {}))
        if func.namespace == "prim":
            return output  # of a tensor's attribute
        self.flops += flops_of(func, args, output)
        kind = self._new_kind
        if func is torch.ops.aten._to_copy.default and self._kind_of(args[0]) == "weights":
            kind = "casts"
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor):
                self._follow(tensor, kind, func.overloadpacket.__name__)
        return output

    def _kind_of(self, tensor: Tensor) -> Kind | None:
        entry = self._live.get(tensor.untyped_storage()._cdata)
        return None if entry is None else entry[2]

    def _follow(self, tensor: Tensor, kind: Kind, operator: str) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        size = -(-storage.nbytes() // self._alignment) * self._alignment
        self._live[key] = (weakref.ref(storage, partial(self._died, key)), size, kind)
        self._bytes[kind] += size
        self._total += size
        if self._total > self.peak.total_bytes:
            self.peak = Peak(dict(self._bytes), operator)

    def _died(self, key: int, reference: weakref.ref[Any]) -> None:
        # An address may have been given to another storage by now.
        if key in self._live and self._live[key][0] is reference:
            self._forget(key)

    def _forget(self, key: int) -> None:
        if key in self._live:
            _, size, kind = self._live.pop(key)
            self._bytes[kind] -= size
            self._total -= size
