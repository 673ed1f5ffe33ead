"""The train and held-out split, by near-duplicate group."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kinetoscope.core.keys import random_key, uniform

# How far the held-out share may be from the one asked for without a word.
_TOLERATED = 0.1


def split_groups(
    groups: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], *, fraction: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Return which clips are held out; a group is never torn.

    Groups are taken in an order that depends on the seed and their own keys alone (the least key of
    their clips), each as far as it brings the held-out clips nearer to their share. So more data
    moves few groups. Each side gets at least one group.

    Args:
        groups: the clips' group numbers, from 0 without gaps.
        keys: numbers that the clips have wherever they stand, at least 0.
        fraction: share of the clips to hold out.
        seed: of the run.

    Raises:
        ValueError: fewer than two groups.
    """
    sizes = np.bincount(groups)
    if len(sizes) < 2:  # noqa: PLR2004 (one per side)
        raise ValueError(f"{len(sizes)} group(s) can't be split")
    least = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(least, groups, keys)
    drawn = uniform(random_key("split", seed), least)
    ranked = np.lexsort((least, drawn))
    heldout = np.zeros(len(sizes), bool)
    heldout[ranked[_nearest(sizes[ranked], fraction * len(groups))]] = True
    return heldout[groups]


def _nearest(sizes: npt.NDArray[np.int64], wanted: float) -> list[int]:
    """Return the places of groups, the first come first, that are near to a number of clips."""
    taken: list[int] = []
    total, most = 0, len(sizes) - 1
    for place, size in enumerate(sizes.tolist()):
        # No group is smaller than one clip.
        if len(taken) == most or 2 * (wanted - total) <= 1:
            break
        if abs(total + size - wanted) < abs(total - wanted):
            taken.append(place)
            total += size
    # All groups are too large: the smallest one comes nearest.
    return taken or [int(sizes.argmin())]


def told_share(num_heldout: int, num_clips: int, fraction: float) -> str:
    """Return words for a share that whole groups could not meet; empty where they did."""
    if abs(num_heldout - fraction * num_clips) <= max(1.0, _TOLERATED * fraction * num_clips):
        return ""
    share = num_heldout / num_clips
    return (
        f"{num_heldout} of {num_clips} clips are held out ({share:.0%}, asked for {fraction:.0%}): "
        "clips of one video, and near-duplicates, stay on one side"
    )
