"""The one text format in which scores condition a caption.

``a red circle moving left. motion score: 3.2. quality score: 0.7.``

The caption, ended with a full stop unless it has its own end mark, then one sentence per score with
one decimal. Training and inference both use `condition_text`; doing it twice changes nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from kinetoscope.data.config import ScoreName

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = "|".join(get_args(ScoreName))
_SCORE = re.compile(rf"({_NAMES}) score: (-?\d+(?:\.\d+)?)\.")
_SUFFIX = re.compile(rf"(?:^|\s+)(?:{_SCORE.pattern}\s*)+$")
_END_MARKS = (".", "!", "?", "\u3002", "\uff01", "\uff1f")


def condition_text(caption: str, scores: Mapping[str, float]) -> str:
    """Return the caption with the scores, in their order, in place of any that it ends with.

    Args:
        caption: raw or already conditioned.
        scores: score names (``motion``, ``quality``) to values in their scorers' units.
            Empty: the caption without scores.
    """
    unknown = sorted(set(scores) - set(get_args(ScoreName)))
    if unknown:
        raise ValueError(f"unknown scores {unknown}; known are {list(get_args(ScoreName))}")
    bare, _ = split_conditioning(caption)
    if not scores:
        return bare
    if bare and not bare.endswith(_END_MARKS):
        bare += "."
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    sentences = [f"{name} score: {round(value, 1) + 0.0:.1f}." for name, value in scores.items()]
    return " ".join([bare, *sentences] if bare else sentences)


def split_conditioning(text: str) -> tuple[str, dict[str, float]]:
    """Return the caption without its score sentences, and the scores."""
    text = text.strip()
    match = _SUFFIX.search(text)
    if match is None:
        return text, {}
    scores = {name: float(value) for name, value in _SCORE.findall(match.group())}
    return text[: match.start()].rstrip(), scores
