"""Prompts as Open-Sora 1.2 takes them apart and conditions them."""

from __future__ import annotations

from kinetoscope.core.errors import ConfigError
from kinetoscope.data.text.prompts import (
    JsonSuffix,
    PromptScores,
    merge_prompt,
    parse_json_suffix,
    prompt_segments,
)
from kinetoscope.parity.reference.cleaning import reference_clean_caption


def reference_append_scores(prompt: str, scores: PromptScores) -> str:
    """Return the prompt with its scores in the reference's format.

    It puts no full stop before them, and leaves a score out where the prompt has its label
    anywhere, instead of replacing scores at the prompt's end.
    """
    sentences = {
        "aesthetic score:": None if scores.aesthetic is None else f"{scores.aesthetic:.1f}",
        "motion score:": None if scores.motion is None else f"{scores.motion:.1f}",
        "camera motion:": scores.camera_motion,
    }
    added = [
        f" {label} {value}."
        for label, value in sentences.items()
        if value is not None and label not in prompt
    ]
    return prompt + "".join(added)


def reference_split_prompt(prompt: str) -> tuple[list[str], list[int] | None]:
    """Return the texts of a prompt and the loops at which they start, in any order.

    Raises:
        ConfigError: loops and texts don't alternate.
    """
    texts, starts = prompt_segments(prompt)
    return texts if starts is None else [text.strip() for text in texts], starts


def reference_prompt_of_loop(prompt: str, loop: int) -> str:
    """Return the text of a loop, with the spaces around it.

    Loops come in any order: each text fills the loops up to the next one's.

    Raises:
        ConfigError: as in `reference_split_prompt`, or no text fills the loop.
    """
    texts, starts = prompt_segments(prompt)
    if starts is None:
        return prompt
    filled = 0
    for text, start, end in zip(texts, starts, [*starts[1:], loop + 1], strict=True):
        filled += max(0, end - start)
        if filled > loop:
            return text
    raise ConfigError(f"{prompt!r} has no text for loop {loop}")


def reference_split_json(prompt: str) -> JsonSuffix:
    """Take the JSON suffix off a prompt, with the spaces before it; values may be no strings.

    Raises:
        ConfigError: there is a ``{`` but no object with the keys of `JsonSuffix`.
    """
    text, found = parse_json_suffix(prompt)
    return JsonSuffix(text, **(found or {}))


def reference_condition_prompt(prompt: str, scores: PromptScores) -> str:
    """Return a prompt, whole or in segments, scored first and then cleaned."""
    texts, starts = reference_split_prompt(prompt)
    scored = [reference_append_scores(text, scores) for text in texts]
    return merge_prompt([reference_clean_caption(text) for text in scored], starts)
