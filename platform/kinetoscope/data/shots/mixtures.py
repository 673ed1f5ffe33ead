"""How well frames fit a mix that goes over from the picture before them to the one after.

In a mix of two pictures that have nothing to do with each other, each colour goes straight from the
one to the other, while the energies of detail and of contrast, which are squares, sag between them:
at share ``w`` they are ``(1 - w)^2 a + w^2 b`` (a dissolve's variance curve: Alattar, ISCAS 1993).
A camera or things that move change colours too, but not straight, and the energies stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from kinetoscope.data.shots.features import CELLS

if TYPE_CHECKING:
    import numpy.typing as npt

    from kinetoscope.data.shots.features import Features

    Floats = npt.NDArray[np.floating]
    Frames = npt.NDArray[np.int64]

_Number = TypeVar("_Number", np.uint8, np.float32)

# Where frames are looked at, as shares of the way.
_SHARES = np.arange(1, 8) / 8
# Energies below are noise: squared levels.
_DETAIL_NOISE, _CONTRAST_NOISE = 2.0, 5.0
_EVEN_CONTRAST = 9.0
# The detail's sag tells most; weights of the others were fitted to the misfits of rendered and of
# real videos (benchmarks/cuts.py).
_COARSE_WEIGHT, _CONTRAST_WEIGHT, _ASIDE_WEIGHT = 0.5, 0.2, 0.3


class Signals(NamedTuple):
    """What is compared, of ``T`` frames."""

    colors_TC: npt.NDArray[np.uint8]
    detail_T: Floats
    coarse_detail_T: Floats
    contrast_T: Floats
    """Variance of brightness over the grid of cells."""


class Fit(NamedTuple):
    """How some windows fit a mix."""

    misfit: Floats
    """Weighted sum of relative errors, 0 for a mix of unrelated still pictures."""
    unsteady: Floats
    """Root mean square error of the colours' pace: 0 for a linear one."""
    difference: Floats
    """Root mean square difference of the colours before and after, in levels of 0..255."""
    spread: Floats
    """Share of the picture that differs, 0..1; 1 where one side is even: a title may fade."""


def signals_of(features: Features) -> Signals:
    """Return each signal as the median of three frames: flashes of one frame are gone."""
    contrast_T = features.colors_TC[:, ::3].var(axis=1, dtype=np.float32)
    return Signals(
        _median_of_three(features.colors_TC),
        _median_of_three(features.detail_T),
        _median_of_three(features.coarse_detail_T),
        _median_of_three(contrast_T),
    )


def detail_sag(signals: Signals, before: Frames, after: Frames) -> Floats:
    """Return the relative error of the detail's sag between frames ``before`` and ``after``."""
    return _sag(signals.detail_T, before, after, _DETAIL_NOISE)


def fit(signals: Signals, before: Frames, after: Frames) -> Fit:
    """Compare what is between frames ``before`` and ``after``, ``N`` of each, with a mix."""
    frames, shares = _between(before, after)
    start = signals.colors_TC[before].astype(np.float32)
    way = signals.colors_TC[after] - start
    # One level, so that equal pictures have no way of length 0.
    length = np.sqrt((way * way).sum(axis=1) + 1)[:, None]
    gone = signals.colors_TC[frames] - start[:, None]
    along = np.einsum("nkc,nc->nk", gone, way) / length**2
    aside = np.linalg.norm(gone - along[..., None] * way[:, None], axis=2) / length
    coarse = _sag(signals.coarse_detail_T, before, after, _DETAIL_NOISE)
    contrast = _sag(signals.contrast_T, before, after, _CONTRAST_NOISE)
    sag = detail_sag(signals, before, after) + _COARSE_WEIGHT * coarse + _CONTRAST_WEIGHT * contrast
    return Fit(
        sag + _ASIDE_WEIGHT * np.median(aside, axis=1),
        np.sqrt(((along - shares) ** 2).mean(axis=1)),
        length[:, 0] / CELLS,
        np.where(_is_even(signals, before, after), 1.0, _spread(way)),
    )


def _spread(way: Floats) -> Floats:
    """Return the participation ratio of the cells' differences."""
    cells = np.abs(way).reshape(-1, CELLS * CELLS, 3).sum(axis=2)
    return np.asarray(cells.mean(axis=1) ** 2 / ((cells * cells).mean(axis=1) + 1))


def _is_even(signals: Signals, before: Frames, after: Frames) -> npt.NDArray[np.bool_]:
    contrast = np.minimum(signals.contrast_T[before], signals.contrast_T[after])
    return np.asarray(contrast <= _EVEN_CONTRAST)


def _between(before: Frames, after: Frames) -> tuple[Frames, Floats]:
    span = (after - before)[:, None]
    frames = before[:, None] + np.rint(span * _SHARES).astype(np.int64)
    return frames, (frames - before[:, None]) / span


def _sag(energy_T: Floats, before: Frames, after: Frames, noise: float) -> Floats:
    frames, shares = _between(before, after)
    start, end = energy_T[before, None], energy_T[after, None]
    mixed = (1 - shares) ** 2 * start + shares**2 * end
    usual = ((1 - shares) * start + shares * end).mean(axis=1)
    error = np.sqrt(((energy_T[frames] - mixed) ** 2).mean(axis=1))
    return np.asarray(error / (usual + noise))


def _median_of_three(values: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    before, now, after = values[:-2], values[1:-1], values[2:]
    low, high = np.minimum(before, now), np.maximum(before, now)
    return np.concatenate([values[:1], np.maximum(low, np.minimum(high, after)), values[-1:]])
