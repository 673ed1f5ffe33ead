"""What models are told of a clip's size."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinetoscope.core.errors import ConfigError
from kinetoscope.inference.config import IMAGE_FPS, ClipSize

InfoKind = Literal["stdit", "pixart"]


def resolution_info(  # noqa: PLR0913 - the batch, and where and how it is stored
    kind: InfoKind | None,
    size: ClipSize,
    fps: float,
    *,
    batch_size: int = 1,
    image_fps: float = IMAGE_FPS,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """Return the size conditions of a batch of equal clips.

    Args:
        kind: ``stdit``: ``height``, ``width``, ``num_frames``, ``ar`` (height over width) and
            ``fps``, each ``B``; ``pixart``: ``hw`` (``B 2``) and ``ar`` (``B 1``); None: nothing.
        size: pixels and frames.
        fps: frames per second of a video.
        batch_size: B.
        image_fps: what is told instead for one frame.
        dtype: of the values.
        device: where they go.

    Raises:
        ConfigError: there is no such kind.
    """
    ratio = size.height / size.width
    if kind is None:
        return {}
    if kind == "pixart":
        values: dict[str, object] = {"ar": [ratio], "hw": [float(size.height), float(size.width)]}
    elif kind == "stdit":
        values = {
            "height": float(size.height),
            "width": float(size.width),
            "num_frames": float(size.num_frames),
            "ar": ratio,
            "fps": fps if size.num_frames > 1 else image_fps,
        }
    else:
        raise ConfigError(f"no model is told {kind!r}", hint="stdit and pixart are known")
    return {
        name: torch.tensor([value] * batch_size, dtype=dtype, device=device)
        for name, value in values.items()
    }
