"""Dissolves and fades: runs of frames that mix what is before them with what comes after.

A fade is a mix with a black or white picture. Lengths are in frames, whatever the rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.data.shots.mixtures import detail_sag, fit, signals_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from kinetoscope.data.shots.features import Features
    from kinetoscope.data.shots.mixtures import Fit, Signals

    Frames = npt.NDArray[np.int64]

# Frames from the last before a transition to the first after it; what lies between is searched.
_SPANS = (5, 6, 8, 9, 11, 13, 16, 19, 23, 28, 33, 40, 48, 57, 68)
_MIN_SPAN = 4
# Windows of a long video are looked at so many at once.
_BLOCK = 1024
# Limits of a fit. Of two pictures that differ more, a mix may fit less well.
_MAX_SAG, _MAX_UNSTEADY, _MIN_DIFFERENCE = 0.25, 0.22, 18.0
# A small thing that moves before an even ground fits well, but changes little of the picture.
_MIN_SPREAD = 0.4
_MAX_MISFIT, _MAX_FIRST_MISFIT = 0.29, 0.5
_USUAL_DIFFERENCE, _PER_DIFFERENCE = 40.0, 0.1
# By how much a misfit may grow as a window does, that it takes in all of a transition.
_RANK_BY_DIFFERENCE = 0.3
# Black and white: mean brightness, and the greatest deviation within the picture.
_BLACK, _WHITE, _EVEN = 24.0, 231.0, 3.0

Span = tuple[int, int]


def transitions(features: Features, cuts: Sequence[int]) -> list[Span]:
    """Return the frames ``[start, end)`` of dissolves and fades, in order.

    Those from 3 to some 70 frames are found, between hard cuts. Black or white frames beside a fade
    are part of it.
    """
    signals = signals_of(features)
    taken = np.zeros(len(signals.detail_T), bool)
    found: list[Span] = []
    for before, after in _candidates(signals, cuts):
        if not taken[before:after].any():
            for start, end in _placed(signals, before, after):
                taken[start:end] = True
                found.append((start, end))
    return _with_black_and_white(sorted(found), features)


def _candidates(signals: Signals, cuts: Sequence[int]) -> Iterator[Span]:
    """Yield likely last frames before and first frames after transitions, the best first.

    Each last frame comes once, whatever the video: to place a candidate costs about as much as to
    decode a frame.
    """
    num_frames = len(signals.detail_T)
    shot = np.zeros(num_frames, np.int64)
    shot[list(cuts)] = 1
    shot = np.cumsum(shot)
    best, reach = np.full(num_frames, np.inf), np.zeros(num_frames, np.int64)
    for before, after in _windows(num_frames):
        likely = shot[before] == shot[after]
        likely[likely] = detail_sag(signals, before[likely], after[likely]) <= _MAX_SAG
        starts, ends = before[likely], after[likely]
        fits = fit(signals, starts, ends)
        rank = np.where(fits.misfit <= _MAX_FIRST_MISFIT, _rank(fits), np.inf)
        better = rank < best[starts]
        best[starts[better]], reach[starts[better]] = rank[better], ends[better]
    for start in np.argsort(best, kind="stable")[: np.isfinite(best).sum()]:
        yield int(start), int(reach[start])


def _windows(num_frames: int) -> Iterator[tuple[Frames, Frames]]:
    for span in _SPANS:
        for first in range(0, num_frames - span, _BLOCK):
            before = np.arange(first, min(first + _BLOCK, num_frames - span), dtype=np.int64)
            yield before, before + span


def _possible(fits: Fit) -> npt.NDArray[np.bool_]:
    differs = (fits.difference >= _MIN_DIFFERENCE) & (fits.spread >= _MIN_SPREAD)
    return differs & (fits.unsteady <= _MAX_UNSTEADY)


def _rank(fits: Fit) -> npt.NDArray[np.floating]:
    return np.where(
        _possible(fits), fits.misfit - _RANK_BY_DIFFERENCE * np.log(fits.difference), np.inf
    )


def _placed(signals: Signals, before: int, after: int) -> list[Span]:
    """Return the best window near a likely one, or none where that does not fit either."""
    last = len(signals.detail_T) - 1
    for step in (2, 1, 1):
        moves = np.arange(-2, 3) * step
        starts = np.clip(before + np.repeat(moves, len(moves)), 0, last)
        ends = np.clip(after + np.tile(moves, len(moves)), 0, last)
        possible = ends - starts >= _MIN_SPAN
        fits = fit(signals, starts[possible], ends[possible])
        best = int(np.argmin(_rank(fits)))
        before, after = int(starts[possible][best]), int(ends[possible][best])
    more = _PER_DIFFERENCE * np.log(fits.difference[best] / _USUAL_DIFFERENCE)
    fitting = _possible(fits)[best] and fits.misfit[best] <= _MAX_MISFIT + more
    return [(before, after)] if fitting else []


def _with_black_and_white(found: Sequence[Span], features: Features) -> list[Span]:
    """Turn frames around transitions into spans, with the even frames beside them."""
    brightness_TC = features.colors_TC[:, ::3]
    mean = brightness_TC.mean(axis=1, dtype=np.float32)
    even = brightness_TC.std(axis=1, dtype=np.float32) <= _EVEN
    even &= (mean <= _BLACK) | (mean >= _WHITE)
    spans: list[Span] = []
    for before, after in found:
        start, end = before + 1, after
        while start > 0 and even[start - 1]:
            start -= 1
        while end < len(even) and even[end]:
            end += 1
        if spans and start <= spans[-1][1]:
            start, end = spans[-1][0], max(end, spans.pop()[1])
        spans.append((start, end))
    return spans
