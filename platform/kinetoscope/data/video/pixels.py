"""Levels of pixels as floats; on a GPU, whence a quarter of the bytes travel."""

from __future__ import annotations

from torch import Tensor


def pixels_of(levels: Tensor) -> Tensor:
    """Return uint8 levels ``... T H W C`` as floats ``... C T H W`` in [-1, 1], where they are."""
    return levels.movedim(-1, -4).contiguous().float().div_(127.5).sub_(1.0)
