"""Applying mask strategies: references into the latents, and which frames to keep.

Shape letters as in ``models/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kinetoscope.core.errors import ConfigError
from kinetoscope.data.text.mask_strategy import MaskGroup, parse_mask_strategy, snap_start


class Placement(NamedTuple):
    """Latent frames of a reference and where they go in a clip.

    Attributes:
        reference_Zthw: latents.
        source: its first frame that is taken.
        target: where that goes in the clip.
        length: frames; cut to what the reference and the clip have from there on.
        edit: the mask of these frames.
    """

    reference_Zthw: Tensor
    source: int
    target: int
    length: int
    edit: float


def apply_mask_strategy(
    z_BZthw: Tensor,
    references: Sequence[Sequence[Tensor]],
    strategies: Sequence[str | None],
    *,
    loop: int = 0,
    align: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Put references into latents.

    Groups are applied in their order, so later ones win. Lengths are cut to what the clip and the
    reference have from their starts on.

    Args:
        z_BZthw: noise; not changed.
        references: of each clip, latents ``Z t h w``.
        strategies: of each clip; an empty one keeps nothing.
        loop: groups of other loops are passed over.
        align: starts snap to multiples of it (`snap_start`): the latent frames of a VAE piece.

    Returns:
        ``z`` with the references, and the mask ``Bt``, float in [0, 1]: 0 keeps a frame, 1
        generates it. No strategies at all (an empty list) give no mask.

    Raises:
        ConfigError: a strategy is malformed, or names a reference or a frame that there is not.
    """
    if not strategies:
        return z_BZthw.clone(), None
    placements = [
        [
            _placement(own, group, z_BZthw.shape[2], align)
            for group in parse_mask_strategy(strategy)
            if group.loop == loop
        ]
        for own, strategy in zip(references, strategies, strict=True)
    ]
    return put_references(z_BZthw, placements)


def put_references(
    z_BZthw: Tensor, placements: Sequence[Sequence[Placement]]
) -> tuple[Tensor, Tensor]:
    """Return a copy of latents with references in it, and the mask ``Bt`` of `apply_mask_strategy`.

    Args:
        z_BZthw: noise.
        placements: of each clip, in their order; later ones win.
    """
    z = z_BZthw.clone()
    mask_Bt = torch.ones(len(placements), z.shape[2], dtype=torch.float32, device=z.device)
    for z_Zthw, mask_t, own in zip(z, mask_Bt, placements, strict=True):
        for reference_Zthw, source, target, wanted, edit in own:
            length = min(wanted, z_Zthw.shape[1] - target, reference_Zthw.shape[1] - source)
            z_Zthw[:, target : target + length] = reference_Zthw[:, source : source + length]
            mask_t[target : target + length] = edit
    return z, mask_Bt


def _placement(
    references: Sequence[Tensor], group: MaskGroup, num_frames: int, align: int | None
) -> Placement:
    if group.reference >= len(references):
        raise ConfigError(
            f"the mask strategy uses reference {group.reference}, but there are {len(references)}",
            hint="references count from 0",
        )
    reference = references[group.reference]
    source = _start(group.reference_start, reference.shape[1], align, of="reference")
    target = _start(group.target_start, num_frames, align, of="clip")
    return Placement(reference, source, target, group.length, group.edit)


def _start(start: int, size: int, align: int | None, *, of: str) -> int:
    """Return a start counted from the first frame and snapped; an error where it is no frame."""
    if not -size <= start < size:
        raise ConfigError(
            f"the mask strategy starts at latent frame {start} of a {of} of {size}",
            hint=f"{-size} to {size - 1} are possible",
        )
    start %= size
    return start if align is None else snap_start(start, align, size)
