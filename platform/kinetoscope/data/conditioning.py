"""The one text format in which scores condition a caption.

``a red circle moving left. motion score: 3.2. quality score: 0.7. camera motion: pan left.``

The caption, ended with a full stop unless it has its own end mark, then one sentence per score with
one decimal, then the camera's motion. Training and inference both use `condition_text`; doing it
twice changes nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, cast, get_args

from kinetoscope.data.config import CameraMotion, ScoreName

if TYPE_CHECKING:
    from collections.abc import Mapping

SCORE_NAMES: tuple[str, ...] = ("aesthetic", *get_args(ScoreName))
"""Scores that a text can carry; ours are measured in data preparation, ``aesthetic`` is not."""

_SCORE = re.compile(rf"({'|'.join(SCORE_NAMES)}) score: (-?\d+(?:\.\d+)?)[.,]")
_CAMERA = re.compile(rf"camera motion: ({'|'.join(get_args(CameraMotion))})[.,]")
# Commas as in the format of Open-Sora's report.
_SUFFIX = re.compile(rf"(?:^|\s+)(?:(?:{_SCORE.pattern}|{_CAMERA.pattern})\s*)+$")
_END_MARKS = (".", "!", "?", "\u3002", "\uff01", "\uff1f")


class Conditioning(NamedTuple):
    """A text taken apart.

    Attributes:
        caption: the text without the sentences at its end.
        scores: by name.
        camera_motion: None where the text has none.
    """

    caption: str
    scores: dict[str, float]
    camera_motion: CameraMotion | None = None


def condition_text(
    caption: str, scores: Mapping[str, float], *, camera_motion: CameraMotion | None = None
) -> str:
    """Return the caption with the scores, in their order, in place of any that it ends with.

    Args:
        caption: raw or already conditioned.
        scores: score names (`SCORE_NAMES`) to values in their scorers' units.
        camera_motion: comes after the scores. Without it and scores: the bare caption.
    """
    unknown = sorted(set(scores) - set(SCORE_NAMES))
    if unknown:
        raise ValueError(f"unknown scores {unknown}; known are {list(SCORE_NAMES)}")
    bare = split_conditioning(caption).caption
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    sentences = [f"{name} score: {round(value, 1) + 0.0:.1f}." for name, value in scores.items()]
    if camera_motion is not None:
        sentences.append(f"camera motion: {camera_motion}.")
    if not sentences:
        return bare
    if bare and not bare.endswith(_END_MARKS):
        bare += "."
    return " ".join([bare, *sentences] if bare else sentences)


def split_conditioning(text: str) -> Conditioning:
    """Take the scores and the camera's motion off the end of a text."""
    text = text.strip()
    match = _SUFFIX.search(text)
    if match is None:
        return Conditioning(text, {})
    suffix = match.group()
    scores = {name: float(value) for name, value in _SCORE.findall(suffix)}
    cameras = _CAMERA.findall(suffix)
    camera = cast("CameraMotion", cameras[-1]) if cameras else None
    return Conditioning(text[: match.start()].rstrip(), scores, camera)
