"""What Open-Sora 1.2 tells its models of a clip's size."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinetoscope.inference.config import IMAGE_FPS, ClipSize

InfoKind = Literal["stdit", "pixart"]
"""STDiT, or the image model PixArt."""


def resolution_info(
    kind: InfoKind | None,
    size: ClipSize,
    fps: float,
    *,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Return the size conditions of a batch of equal clips.

    Args:
        kind: ``stdit``: ``height``, ``width``, ``num_frames``, ``ar`` (height over width) and
            ``fps``, each ``B``; ``pixart``: ``hw`` (``B 2``) and ``ar`` (``B 1``); None: nothing.
        size: pixels and frames.
        fps: frames per second of a video; an image is told `IMAGE_FPS`.
        batch_size: B.
        dtype: of the values.
    """
    ratio = size.height / size.width
    if kind is None:
        return {}
    if kind == "pixart":
        values: dict[str, object] = {"ar": [ratio], "hw": [float(size.height), float(size.width)]}
    else:
        values = {
            "height": float(size.height),
            "width": float(size.width),
            "num_frames": float(size.num_frames),
            "ar": ratio,
            "fps": fps if size.num_frames > 1 else IMAGE_FPS,
        }
    return {name: torch.tensor([value] * batch_size, dtype=dtype) for name, value in values.items()}
