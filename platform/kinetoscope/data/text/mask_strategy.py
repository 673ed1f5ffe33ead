"""Mask strategies: which latent frames of a clip are taken from which reference.

A strategy is groups joined by ``;``, each up to six numbers joined by commas::

    loop,reference,reference_start,target_start,length,edit

What a group leaves out at its end is ``0,0,0,0,1,0``: "0" makes a reference image the clip's first
frame. Starts and lengths count latent frames, negative starts from the end. ``edit`` is how freely
the frames may change: 0 keeps them, 1 generates them anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from kinetoscope.core.errors import ConfigError

Reference = TypeVar("Reference")

_FORM = "loop,reference,reference_start,target_start,length,edit"
_NUM_WHOLE = 5


class MaskGroup(NamedTuple):
    """One group of a mask strategy.

    Attributes:
        loop: pass of a clip made in several (`kinetoscope.inference.loops`), from 0.
        reference: number of the reference, from 0.
        reference_start: first latent frame that is taken from it.
        target_start: latent frame of the clip where it goes.
        length: latent frames.
        edit: in [0, 1]: 0 keeps the frames as they are, 1 generates them.
    """

    loop: int = 0
    reference: int = 0
    reference_start: int = 0
    target_start: int = 0
    length: int = 1
    edit: float = 0.0


def parse_mask_strategy(strategy: str | None) -> list[MaskGroup]:
    """Return the groups of a mask strategy; nothing has none.

    Raises:
        ConfigError: a group is not of this form or has a number out of range.
    """
    groups = mask_groups(strategy)
    for group in groups:
        _check_group(group, strategy)
    return groups


def mask_groups(strategy: str | None) -> list[MaskGroup]:
    """Return the groups as they are written, whatever their numbers.

    Raises:
        ConfigError: a group is not of this form.
    """
    if not strategy:
        return []
    return [_parse_group(group, strategy) for group in strategy.split(";")]


def snap_start(start: int, align: int, num_frames: int) -> int:
    """Move a start to the nearest multiple of ``align`` in the clip.

    The VAE encodes clips in pieces, so latents keep their meaning when pieces lie on pieces. Halves
    go down. The clip's last frame stays where it is: "-1" asks for the end.

    Args:
        start: in [0, num_frames).
        align: latent frames of a VAE piece.
        num_frames: latent frames of the clip.
    """
    if start == num_frames - 1:
        return start
    pieces, rest = divmod(start, align)
    up = rest > align / 2 and (pieces + 1) * align < num_frames
    return (pieces + up) * align


def continue_from(
    references: Sequence[Reference] | None,
    strategy: str | None,
    previous: Reference,
    *,
    group: MaskGroup,
) -> tuple[list[Reference], str]:
    """Make the previous clip a reference of the next one.

    Args:
        references: of the clip so far.
        strategy: mask strategy so far.
        previous: the clip before, encoded; becomes the last reference.
        group: ``loop``, ``length`` and ``edit`` of the condition; its last ``length`` latent frames
            become the first of the clip.

    Returns:
        The references and the mask strategy of the next clip.
    """
    together = [*(references or ()), previous]
    added = f"{group.loop},{len(together) - 1},-{group.length},0,{group.length},{group.edit}"
    return together, f"{strategy};{added}" if strategy else added


def _parse_group(group: str, strategy: str) -> MaskGroup:
    fields = group.split(",")
    if len(fields) > len(MaskGroup._fields):
        raise _error(strategy, f"{group!r} has {len(fields)} numbers")
    try:
        whole = [int(field) for field in fields[:_NUM_WHOLE]]
        edit = [float(field) for field in fields[_NUM_WHOLE:]]
    except ValueError:
        raise _error(strategy, f"{group!r} is not made of numbers") from None
    return MaskGroup(*whole, *edit)


def _check_group(group: MaskGroup, strategy: str | None) -> None:
    if group.loop < 0 or group.reference < 0:
        raise _error(strategy, f"loop {group.loop} and reference {group.reference} count from 0")
    if group.length < 1:
        raise _error(strategy, f"the length {group.length} is below 1")
    if not 0 <= group.edit <= 1:
        raise _error(strategy, f"the edit ratio {group.edit} is not within 0 and 1")


def _error(strategy: str | None, problem: str) -> ConfigError:
    return ConfigError(
        f"bad mask strategy {strategy!r}: {problem}",
        hint=f"up to six numbers {_FORM} per group, groups joined by ';'; '0' starts the clip "
        "with the first reference",
    )
