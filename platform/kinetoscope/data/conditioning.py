"""The one text format in which scores condition a caption.

``a red circle moving left. motion score: 3.2. quality score: 0.7. camera motion: pan left.``

The caption, ended with a full stop unless it has its own end mark, then one sentence per score with
one decimal (a count or a class has none), then the camera's motion. Training and inference both use
`condition_text`; doing it twice changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast, get_args

from kinetoscope.data.config import CameraMotion
from kinetoscope.data.scorers.registry import scorer_types

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

UNMEASURED = {"aesthetic": "aesthetic score"}
"""Scores that released weights know and nothing here measures, with their wording."""

_CAMERA = re.compile(rf"camera motion: ({'|'.join(get_args(CameraMotion))})[.,]")
_END_MARKS = (".", "!", "?", "\u3002", "\uff01", "\uff1f")


# A word that a cut went through, and what should not end a caption.
_TORN_WORD = re.compile(r"(?<=\s)\S*[^\W_]$")
_LOOSE_ENDS = " \t,;:-("


# Texts that are tokenised at a time.
_BATCH = 1000


class _Scores(NamedTuple):
    """The scores that a text can carry.

    Attributes:
        wordings: by name; in the order in which prompts get them.
        whole: names of those written as whole numbers.
        sentence: a score's; its groups are the wording and the number.
        suffix: all sentences at the end of a text.
    """

    wordings: dict[str, str]
    whole: frozenset[str]
    sentence: re.Pattern[str]
    suffix: re.Pattern[str]


@cache
def _scores() -> _Scores:
    measured = {name: scorer.score for name, scorer in scorer_types().items()}
    wordings = UNMEASURED | {name: score.wording for name, score in measured.items()}
    whole = frozenset(name for name, score in measured.items() if score.dtype == "int")
    words = "|".join(map(re.escape, wordings.values()))
    # Commas as in the format of Open-Sora's report.
    sentence = re.compile(rf"({words}): (-?\d+(?:\.\d+)?)[.,]")
    suffix = re.compile(rf"(?:^|\s+)(?:(?:{sentence.pattern}|{_CAMERA.pattern})\s*)+$")
    return _Scores(wordings, whole, sentence, suffix)


def conditioning_scores() -> tuple[str, ...]:
    """Return the names of the scores that a text can carry, in the order that prompts get them."""
    return tuple(_scores().wordings)


class TokenCounter(Protocol):
    """A text encoder, as far as it tells what fits into it."""

    @property
    def max_tokens(self) -> int:
        """Most tokens of a text; what is beyond is cut off."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, uncut."""
        ...


class ConditionEncoder(TokenCounter, Protocol):
    """A text encoder."""

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings ``BSD`` and a mask ``BS``."""
        ...


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
        scores: score names (`conditioning_scores`) to values in their scorers' units.
        camera_motion: comes after the scores. Without it and scores: the bare caption.
    """
    known = _scores()
    unknown = sorted(set(scores) - set(known.wordings))
    if unknown:
        raise ValueError(f"unknown scores {unknown}; known are {list(known.wordings)}")
    bare = split_conditioning(caption).caption
    sentences = [
        f"{known.wordings[name]}: {_number(value, whole=name in known.whole)}."
        for name, value in scores.items()
    ]
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
    known = _scores()
    match = known.suffix.search(text)
    if match is None:
        return Conditioning(text, {})
    suffix = match.group()
    names = {wording: name for name, wording in known.wordings.items()}
    found = known.sentence.findall(suffix)
    scores = {names[wording]: float(value) for wording, value in found}
    cameras = _CAMERA.findall(suffix)
    camera = cast("CameraMotion", cameras[-1]) if cameras else None
    return Conditioning(text[: match.start()].rstrip(), scores, camera)


def _number(value: float, *, whole: bool) -> str:
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return f"{round(value):d}" if whole else f"{round(value, 1) + 0.0:.1f}"


def encode_conditions(texts: Sequence[str], encoder: ConditionEncoder) -> tuple[Tensor, Tensor]:
    """Return embeddings ``BSD`` and a mask ``BS`` of condition texts, with their scores whole."""
    return encoder.encode(fit_texts(texts, encoder))


def fit_texts(texts: Sequence[str], counter: TokenCounter) -> list[str]:
    """Return the texts with captions so short that their scores are not cut off.

    Encoders cut what is too long at its end, where the scores stand. A text without scores is cut
    at the same place as there.

    Args:
        texts: conditioned or not.
        counter: the encoder that they are for.
    """
    counts = counter.count_tokens(texts)
    return [
        text if count <= counter.max_tokens else _shortened(text, counter)
        for text, count in zip(texts, counts, strict=True)
    ]


def count_too_long(texts: Sequence[str], counter: TokenCounter) -> int:
    """Return how many texts have more tokens than the encoder takes."""
    batches = (texts[first : first + _BATCH] for first in range(0, len(texts), _BATCH))
    counts = chain.from_iterable(map(counter.count_tokens, batches))
    return sum(count > counter.max_tokens for count in counts)


def _shortened(text: str, counter: TokenCounter) -> str:
    parts = split_conditioning(text)
    if not parts.scores and parts.camera_motion is None:
        return text

    def with_caption(length: int) -> str:
        caption = parts.caption[:length]
        if length < len(parts.caption) and parts.caption[length : length + 1].isalnum():
            caption = _TORN_WORD.sub("", caption)
        caption = caption.rstrip(_LOOSE_ENDS)
        return condition_text(caption, parts.scores, camera_motion=parts.camera_motion)

    # The longest caption that fits; what holds for one length holds for the shorter ones.
    fits, too_long = 0, len(parts.caption)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if counter.count_tokens([with_caption(middle)])[0] <= counter.max_tokens:
            fits = middle
        else:
            too_long = middle
    return with_caption(fits)
