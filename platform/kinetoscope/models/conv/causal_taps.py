"""Which frames meet in a causal convolution over time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Tap:
    """One time step of a kernel: input frames that it multiplies, output frames they go to."""

    index: int
    inputs: slice
    outputs: slice


@lru_cache(maxsize=256)
def causal_taps(num_frames: int, kernel: int, stride: int) -> tuple[Tap, ...]:
    """Return the taps that meet real frames, the one that reaches every output frame first.

    Output frame ``i`` sees the input frames ``i * stride - (kernel - stride) + index``; those below
    0 are zeros. There are ``num_frames / stride`` output frames, rounded down.

    Args:
        num_frames: of the input.
        kernel: time steps of the kernel, at least ``stride``.
        stride: along time.

    Raises:
        ValueError: no output frame fits.
    """
    num_outputs = num_frames // stride
    if num_outputs < 1 or kernel < stride:
        raise ValueError(
            f"{num_frames} frames are too few for stride {stride} (kernel {kernel}): at least "
            f"{stride} frames and a kernel of {stride} are needed"
        )
    taps = []
    for index in reversed(range(kernel)):
        offset = index - (kernel - stride)
        first = max(0, -(offset // stride))
        if first < num_outputs:
            start = first * stride + offset
            stop = (num_outputs - 1) * stride + offset + 1
            taps.append(Tap(index, slice(start, stop, stride), slice(first, num_outputs)))
    return tuple(taps)
