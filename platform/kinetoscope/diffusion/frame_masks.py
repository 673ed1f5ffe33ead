"""Which frames a training sample is conditioned on (Open-Sora 1.2's mask strategies).

A mask is True for the frames that are generated and False for those that are given. ``quarter_*``
give up to a quarter of the latent frames, ``image_*`` one: at the start (``head``), at the end
(``tail``), at both or anywhere (``random``). ``random`` gives each frame with a probability that is
itself drawn from 0.1 to 0.9, ``interpolate`` every other frame, ``identity`` none.

Shapes: ``B`` batch, ``t`` latent frames, ``U`` uniform draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kinetoscope.core.keys import uniform
from kinetoscope.diffusion.config import FrameMaskName

Draws = npt.NDArray[np.float64]
Given = npt.NDArray[np.bool_]

_NAME, _SIZE, _START, _FRAMES = range(4)
"""Columns of a sample's draws; those from ``_FRAMES`` on are one per frame."""

LEAST_GIVEN, MOST_GIVEN = 0.1, 0.9
"""Range of the probability with which ``random`` gives a frame."""

MAX_QUARTER = 4
"""``quarter_*`` give at most the number of frames divided by this."""


def draw_frame_masks(
    keys: Sequence[int], latent_frames: int, ratios: Mapping[FrameMaskName, float]
) -> Tensor:
    """Draw the frame masks ``B t`` of a batch, bool; True is a frame to generate.

    Every sample has a frame to generate: where a strategy would leave none (both ends of two
    frames), nothing is given. Below four latent frames a quarter is one frame. One frame, an image,
    is generated always.

    Args:
        keys: one random key per sample (`core.keys.random_key`), its mask depends on it alone.
        latent_frames: of the clips.
        ratios: probability of each strategy; the rest to 1 goes to ``identity``.
    """
    given_Bt = np.zeros((len(keys), latent_frames), dtype=np.bool_)
    if latent_frames > 1 and keys:
        draws_BU = np.stack([uniform(key, np.arange(_FRAMES + latent_frames)) for key in keys])
        names = list(ratios)
        # Past the last strategy is the rest, identity.
        chosen_B = np.searchsorted(
            np.cumsum([ratios[name] for name in names]), draws_BU[:, _NAME], side="right"
        )
        for number, name in enumerate(names):
            rows = chosen_B == number
            given_Bt[rows] = _STRATEGIES[name](draws_BU[rows], latent_frames)
        given_Bt[given_Bt.all(axis=1)] = False
    return torch.from_numpy(~given_Bt)


def _nothing(draws_BU: Draws, count: int) -> Given:
    return np.zeros((len(draws_BU), count), dtype=np.bool_)


def _quarter(draws_BU: Draws, count: int) -> Draws:
    """Return sizes ``(B, 1)``, uniform from 1 to a quarter of the frames, at least 1."""
    return 1 + np.floor(draws_BU[:, _SIZE, None] * (count // MAX_QUARTER))


def _one(draws_BU: Draws, count: int) -> Draws:  # noqa: ARG001 - the signature of a size
    return np.ones((len(draws_BU), 1))


def _anywhere(draws_BU: Draws, count: int, size_B1: Draws) -> Given:
    start_B1 = np.floor(draws_BU[:, _START, None] * (count - size_B1 + 1))
    frame_t = np.arange(count)
    return (frame_t >= start_B1) & (frame_t < start_B1 + size_B1)


def _head(draws_BU: Draws, count: int, size_B1: Draws) -> Given:  # noqa: ARG001 - a place
    return np.arange(count) < size_B1


def _tail(draws_BU: Draws, count: int, size_B1: Draws) -> Given:  # noqa: ARG001 - a place
    return np.arange(count) >= count - size_B1


def _head_tail(draws_BU: Draws, count: int, size_B1: Draws) -> Given:
    return _head(draws_BU, count, size_B1) | _tail(draws_BU, count, size_B1)


def _random(draws_BU: Draws, count: int) -> Given:
    share_B1 = LEAST_GIVEN + (MOST_GIVEN - LEAST_GIVEN) * draws_BU[:, _SIZE, None]
    given_Bt: Given = draws_BU[:, _FRAMES : _FRAMES + count] <= share_B1
    given_Bt[given_Bt.all(axis=1), -1] = False
    return given_Bt


def _every_other(draws_BU: Draws, count: int) -> Given:
    start_B1 = np.floor(draws_BU[:, _START, None] * 2)
    given_Bt: Given = np.arange(count) % 2 == start_B1
    return given_Bt


Size = Callable[[Draws, int], Draws]
Place = Callable[[Draws, int, Draws], Given]


def _span(size: Size, place: Place) -> Callable[[Draws, int], Given]:
    return lambda draws_BU, count: place(draws_BU, count, size(draws_BU, count))


_STRATEGIES: dict[FrameMaskName, Callable[[Draws, int], Given]] = {
    "identity": _nothing,
    "quarter_random": _span(_quarter, _anywhere),
    "quarter_head": _span(_quarter, _head),
    "quarter_tail": _span(_quarter, _tail),
    "quarter_head_tail": _span(_quarter, _head_tail),
    "image_random": _span(_one, _anywhere),
    "image_head": _span(_one, _head),
    "image_tail": _span(_one, _tail),
    "image_head_tail": _span(_one, _head_tail),
    "random": _random,
    "interpolate": _every_other,
}
