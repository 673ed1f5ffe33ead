"""The train and held-out split, by near-duplicate group."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kinetoscope.core.keys import random_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinetoscope.data.clip_table import Split

# How far the held-out share may be from the one asked for without a word.
_TOLERATED = 0.1


def split_groups(
    groups: Sequence[int], keys: Sequence[str], *, fraction: float, seed: int
) -> list[Split]:
    """Assign every clip to a side; a group is never torn.

    Groups are taken in an order that depends on the seed and their own keys alone (the least key of
    their clips), each as far as it brings the held-out clips nearer to their share. So more data
    moves few groups. Each side gets at least one group.

    Args:
        groups: the clips' group numbers.
        keys: the clips' stable names or digests.
        fraction: share of the clips to hold out.
        seed: of the run.

    Raises:
        ValueError: fewer than two groups.
    """
    names: dict[int, str] = {}
    for group, key in zip(groups, keys, strict=True):
        names[group] = min(key, names.get(group, key))
    if len(names) < 2:  # noqa: PLR2004 (one per side)
        raise ValueError(f"{len(names)} group(s) can't be split")
    sizes = Counter(groups)
    ranked = sorted(
        names, key=lambda group: (random_key("split", seed, names[group]), names[group])
    )
    heldout = _nearest(ranked, sizes, fraction * len(groups))
    return ["heldout" if group in heldout else "train" for group in groups]


def _nearest(ranked: Sequence[int], sizes: Counter[int], wanted: float) -> set[int]:
    """Return groups, first ranked first, that together come near to a number of clips."""
    taken: set[int] = set()
    total = 0
    for group in ranked:
        if (
            abs(total + sizes[group] - wanted) < abs(total - wanted)
            and len(taken) < len(ranked) - 1
        ):
            taken.add(group)
            total += sizes[group]
    # All groups are too large: the smallest one comes nearest.
    return taken or {min(ranked, key=lambda group: sizes[group])}


def told_share(num_heldout: int, num_clips: int, fraction: float) -> str:
    """Return words for a share that whole groups could not meet; empty where they did."""
    if abs(num_heldout - fraction * num_clips) <= max(1.0, _TOLERATED * fraction * num_clips):
        return ""
    share = num_heldout / num_clips
    return (
        f"{num_heldout} of {num_clips} clips are held out ({share:.0%}, asked for {fraction:.0%}): "
        "clips of one video, and near-duplicates, stay on one side"
    )
