"""The train and held-out split, by near-duplicate group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetoscope.core.errors import DataError
from kinetoscope.core.keys import random_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinetoscope.data.clip_table import Split

_MAX_KEY = 2**63


def split_groups(
    groups: Sequence[int], keys: Sequence[str], *, fraction: float, seed: int
) -> list[Split]:
    """Assign every clip to a side; a group is never torn.

    A group's side depends on the seed and its own key alone (the least key of its clips), so more
    data moves no group. When chance leaves a side empty, the group nearest to it goes there.

    Args:
        groups: the clips' group numbers.
        keys: the clips' stable names or digests.
        fraction: expected share of groups held out.
        seed: of the run.

    Raises:
        DataError: fewer than two groups.
    """
    names: dict[int, str] = {}
    for group, key in zip(groups, keys, strict=True):
        names[group] = min(key, names.get(group, key))
    if len(names) < 2:  # noqa: PLR2004 (one per side)
        raise DataError(
            f"{len(groups)} clips in {len(names)} group(s) of near-duplicates can't be split into "
            "train and held-out clips: each side needs one group",
            hint="add a video that shows something else, or lower near_duplicates.max_distance",
        )
    draws = {g: random_key("split", seed, name) / _MAX_KEY for g, name in names.items()}
    ranked = sorted(draws, key=lambda group: (draws[group], names[group]))
    num_heldout = sum(draw < fraction for draw in draws.values())
    heldout = set(ranked[: min(max(1, num_heldout), len(ranked) - 1)])
    return ["heldout" if group in heldout else "train" for group in groups]
