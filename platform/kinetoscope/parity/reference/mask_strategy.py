"""Mask strategies as Open-Sora 1.2 applies them: no number is checked, and starts snap its way.

Shape letters as in ``models/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from kinetoscope.core.errors import ConfigError
from kinetoscope.data.text.mask_strategy import MaskGroup, Reference, continue_from, mask_groups
from kinetoscope.inference.mask_strategy import Placement, put_references


def reference_snap_start(start: int, align: int, num_frames: int) -> int:
    """Move a start to a multiple of ``align``, the clip's last frame like any other.

    It never goes up to a last piece that is not whole.
    """
    pieces, rest = divmod(start, align)
    return (pieces + (rest > align / 2 and pieces < num_frames // align - 1)) * align


def reference_continue_from(
    references: Sequence[Reference] | None,
    strategy: str | None,
    previous: Reference,
    *,
    group: MaskGroup,
) -> tuple[list[Reference], str]:
    """Make the previous clip a reference of the next one, as `continue_from`.

    Raises:
        ConfigError: ``references`` is None.
    """
    if references is None:
        raise ConfigError("the reference can't continue a clip without references")
    return continue_from(references, strategy, previous, group=group)


def reference_apply_mask_strategy(
    z_BZthw: Tensor,
    references: Sequence[Sequence[Tensor]],
    strategies: Sequence[str | None],
    *,
    loop: int = 0,
    align: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Put references into latents; arguments and results are those of `apply_mask_strategy`.

    Raises:
        ConfigError: a group is not of the form of a mask strategy.
        IndexError: a strategy names a reference that there is not.
    """
    if not strategies:
        return z_BZthw.clone(), None
    placements = [
        [
            _placement(own[group.reference], group, z_BZthw.shape[2], align)
            for group in mask_groups(strategy)
            if group.loop == loop
        ]
        for own, strategy in zip(references, strategies, strict=True)
    ]
    return put_references(z_BZthw, placements)


def _placement(
    reference_Zthw: Tensor, group: MaskGroup, num_frames: int, align: int | None
) -> Placement:
    source = _start(group.reference_start, reference_Zthw.shape[1], align)
    target = _start(group.target_start, num_frames, align)
    return Placement(reference_Zthw, source, target, group.length, group.edit)


def _start(start: int, size: int, align: int | None) -> int:
    if start < 0:
        start += size
    return start if align is None else reference_snap_start(start, align, size)
