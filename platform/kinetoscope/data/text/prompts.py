"""The syntax of prompts: one text per part of a long clip, and references in a JSON suffix.

|0|a sunny day|2|it rains                                  loops 0 and 1, then loop 2 and on
a cat {"reference_path": "cat.png", "mask_strategy": "0"}  starts with this image
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from kinetoscope.core.errors import ConfigError
from kinetoscope.data.conditioning import condition_text
from kinetoscope.data.config import CameraMotion
from kinetoscope.data.text.cleaning import clean_caption

_FIRST = "|0|"
_KEYS = ("reference_path", "mask_strategy")
_HINT = 'write "|0|first text|2|text from loop 2 on" with rising loops'


class PromptScores(NamedTuple):
    """What conditions a prompt besides its text; None is left out.

    Attributes:
        aesthetic: aesthetic score, about 4 to 7.
        motion: motion score.
        camera_motion: how the camera moves.
    """

    aesthetic: float | None = None
    motion: float | None = None
    camera_motion: CameraMotion | None = None


class JsonSuffix(NamedTuple):
    """A prompt and what its JSON suffix says; None where it says nothing.

    Attributes:
        text: the prompt before the suffix.
        reference_path: files joined by ``;``.
        mask_strategy: see `kinetoscope.data.text.mask_strategy`.
    """

    text: str
    reference_path: str | None = None
    mask_strategy: str | None = None


def append_scores(prompt: str, scores: PromptScores) -> str:
    """Return the prompt with its scores in our one format (`data/conditioning.py`)."""
    known = {"aesthetic": scores.aesthetic, "motion": scores.motion}
    given = {name: float(value) for name, value in known.items() if value is not None}
    return condition_text(prompt, given, camera_motion=scores.camera_motion)


def split_prompt(prompt: str) -> tuple[list[str], list[int] | None]:
    """Return the texts of a prompt and the loops at which they start.

    A prompt that doesn't begin with ``|0|`` is one text with no loops (None).

    Raises:
        ConfigError: loops and texts don't alternate, or the loops don't rise.
    """
    texts, starts = prompt_segments(prompt)
    if starts is None:
        return texts, None
    if any(b <= a for a, b in pairwise(starts)):
        raise ConfigError(f"the loops {starts} of {prompt!r} do not rise", hint=_HINT)
    return [text.strip() for text in texts], starts


def prompt_segments(prompt: str) -> tuple[list[str], list[int] | None]:
    """Return what `split_prompt` does, as it is written: with spaces, loops in any order.

    Raises:
        ConfigError: loops and texts don't alternate.
    """
    if not prompt.startswith(_FIRST):
        return [prompt], None
    fields = prompt.split("|")[1:]
    if len(fields) % 2:
        raise ConfigError(f"a text is missing in {prompt!r}", hint=_HINT)
    try:
        return fields[1::2], [int(field) for field in fields[::2]]
    except ValueError:
        raise ConfigError(
            f"between '|' and '|' there is no number of a loop in {prompt!r}", hint=_HINT
        ) from None


def merge_prompt(texts: Sequence[str], starts: Sequence[int] | None) -> str:
    """Undo `split_prompt` (but for spaces around the texts)."""
    if starts is None:
        return texts[0]
    return "".join(f"|{start}|{text}" for start, text in zip(starts, texts, strict=True))


def prompt_of_loop(prompt: str, loop: int) -> str:
    """Return the text of a loop: the last one that starts at it or before.

    Raises:
        ConfigError: as in `split_prompt`.
    """
    texts, starts = split_prompt(prompt)
    return texts[sum(start <= loop for start in starts or [0]) - 1]


def split_json(prompt: str) -> JsonSuffix:
    """Take the JSON suffix off a prompt.

    Args:
        prompt: a prompt; from the first ``{`` on it must be one JSON object whose keys are
            ``reference_path`` and ``mask_strategy``, neither of them needed; both are strings.

    Raises:
        ConfigError: there is a ``{`` but no such object.
    """
    text, found = parse_json_suffix(prompt)
    if found is None:
        return JsonSuffix(prompt)
    for key, value in found.items():
        if not isinstance(value, str):
            raise _json_error(prompt, f"{key} must be a string, not {value!r}")
    return JsonSuffix(text.rstrip(), **found)


def parse_json_suffix(prompt: str) -> tuple[str, dict[str, Any] | None]:
    """Return the text before the JSON suffix as it is written, and the object; None without one.

    Raises:
        ConfigError: there is a ``{`` but no object with the keys of `split_json`.
    """
    text, brace, rest = prompt.partition("{")
    if not brace:
        return prompt, None
    if "{" in rest:
        raise _json_error(prompt, "it has more than one '{'")
    try:
        found: dict[str, Any] = json.loads(brace + rest)
    except ValueError as error:
        raise _json_error(prompt, f"no JSON ({error})") from error
    unknown = sorted(set(found) - set(_KEYS))
    if unknown:
        raise _json_error(prompt, f"unknown keys {unknown}")
    return text, found


def condition_prompt(prompt: str, scores: PromptScores, *, clean: bool = True) -> str:
    """Return a prompt, whole or in segments, as the text encoder is to see it.

    Args:
        prompt: without JSON suffix.
        scores: added to every text.
        clean: clean the texts first, as the captions of training were.
    """
    texts, starts = split_prompt(prompt)
    cleaned = [clean_caption(text) if clean else text for text in texts]
    return merge_prompt([append_scores(text, scores) for text in cleaned], starts)


def _json_error(prompt: str, problem: str) -> ConfigError:
    return ConfigError(
        f"the JSON at the end of {prompt!r} can't be used: {problem}",
        hint='write {"reference_path": "a.png", "mask_strategy": "0"}, or no braces',
    )
