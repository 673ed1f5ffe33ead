"""Applying mask strategies: references into the latents, and which frames to keep.

Shape letters as in ``models/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinetoscope.core.errors import ConfigError
from kinetoscope.data.text.mask_strategy import MaskGroup, parse_mask_strategy, snap_start


def apply_mask_strategy(
    z_BZthw: Tensor,
    references: Sequence[Sequence[Tensor]],
    strategies: Sequence[str | None],
    *,
    loop: int = 0,
    align: int | None = None,
    reference_align: bool = False,
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
        reference_align: compat with Open-Sora 1.2: its way to snap, and no check of the numbers.

    Returns:
        ``z`` with the references, and the mask ``Bt``, float in [0, 1]: 0 keeps a frame, 1
        generates it. No strategies at all (an empty list) give no mask.

    Raises:
        ConfigError: a strategy is malformed, or names a reference or a frame that there is not.
    """
    z = z_BZthw.clone()
    if not strategies:
        return z, None
    mask_Bt = torch.ones(len(strategies), z.shape[2], dtype=torch.float32, device=z.device)
    for z_Zthw, mask_t, own, strategy in zip(z, mask_Bt, references, strategies, strict=True):
        for group in parse_mask_strategy(strategy, reference_prompts=reference_align):
            if group.loop != loop:
                continue
            reference = _reference(own, group)
            sizes = (reference.shape[1], z_Zthw.shape[1])
            starts = (group.reference_start, group.target_start)
            if not reference_align:
                starts = _checked(group, sizes)
            source, target = _resolved(starts, sizes, align, reference_align=reference_align)
            length = min(group.length, sizes[1] - target, sizes[0] - source)
            z_Zthw[:, target : target + length] = reference[:, source : source + length]
            mask_t[target : target + length] = group.edit
    return z, mask_Bt


def _reference(references: Sequence[Tensor], group: MaskGroup) -> Tensor:
    try:
        return references[group.reference]
    except IndexError:
        raise ConfigError(
            f"the mask strategy uses reference {group.reference}, but there are {len(references)}",
            hint="references count from 0",
        ) from None


def _checked(group: MaskGroup, sizes: tuple[int, int]) -> tuple[int, int]:
    """Return the starts of the reference and the target; an error where one is no frame."""
    starts = (group.reference_start, group.target_start)
    for name, start, size in zip(("reference", "clip"), starts, sizes, strict=True):
        if not -size <= start < size:
            raise ConfigError(
                f"the mask strategy starts at latent frame {start} of a {name} of {size}",
                hint=f"{-size} to {size - 1} are possible",
            )
    return starts


def _resolved(
    starts: tuple[int, int], sizes: tuple[int, int], align: int | None, *, reference_align: bool
) -> tuple[int, int]:
    source, target = (
        start + size if start < 0 else start for start, size in zip(starts, sizes, strict=True)
    )
    if align is None:
        return source, target
    return (
        snap_start(source, align, sizes[0], reference_align=reference_align),
        snap_start(target, align, sizes[1], reference_align=reference_align),
    )
