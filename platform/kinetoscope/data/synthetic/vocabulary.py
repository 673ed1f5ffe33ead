"""The vocabulary and the caption grammar of the synthetic set.

A caption is ``a <color> <shape> moving <direction>`` or ``a <color> <shape> standing still``.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

import numpy as np

from kinetoscope.core.keys import generator

SHAPES = ("circle", "square", "triangle")
COLORS = {
    "red": (225, 45, 45),
    "green": (45, 200, 65),
    "blue": (55, 85, 235),
    "yellow": (235, 215, 50),
}
"""Colour names and what is drawn: RGB in 0..255."""
GROUND = (14, 14, 18)
"""RGB of the ground in 0..255."""
MOTIONS = {
    "left": (0.0, -1.0),
    "right": (0.0, 1.0),
    "up": (-1.0, 0.0),
    "down": (1.0, 0.0),
    "still": (0.0, 0.0),
}
"""Motion names and their direction as (y, x), y pointing down."""

_CAPTION = re.compile(
    rf"a ({'|'.join(COLORS)}) ({'|'.join(SHAPES)}) "
    rf"(?:moving ({'|'.join(name for name in MOTIONS if name != 'still')})|standing still)\.?"
)


class Combination(NamedTuple):
    """What one synthetic clip shows."""

    shape: str
    color: str
    motion: str

    @property
    def caption(self) -> str:
        """The combination in the set's grammar."""
        return caption(self.shape, self.color, self.motion)


ALL_COMBINATIONS = tuple(
    Combination(*parts) for parts in itertools.product(SHAPES, COLORS, MOTIONS)
)


def caption(shape: str, color: str, motion: str) -> str:
    """Return e.g. ``a red circle moving left`` or ``a red circle standing still``."""
    verb = "standing still" if motion == "still" else f"moving {motion}"
    return f"a {color} {shape} {verb}"


def parse(text: str) -> Combination | None:
    """Read a caption of the set's grammar back; None when the text is anything else."""
    match = _CAPTION.fullmatch(text.strip().lower())
    if match is None:
        return None
    color, shape, motion = match.groups()
    return Combination(shape, color, motion or "still")


def held_out_combinations(num: int, seed: int) -> tuple[Combination, ...]:
    """Choose combinations that are never written, spread evenly over the vocabulary.

    The counts of shapes, colours and motions (3, 4, 5) are pairwise coprime, so walking all three
    lists at once meets each combination once in 60 steps and each word evenly on the way.
    """
    rng = generator("synth-held-out", seed)
    words = [list(names) for names in (SHAPES, COLORS, MOTIONS)]
    shapes, colors, motions = (np.array(names)[rng.permutation(len(names))] for names in words)
    walk = (
        Combination(
            str(shapes[i % len(shapes)]),
            str(colors[i % len(colors)]),
            str(motions[i % len(motions)]),
        )
        for i in range(num)
    )
    return tuple(walk)
