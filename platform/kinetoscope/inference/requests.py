"""From what a user writes to a request, and what is wrong with it before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.data.text.mask_strategy import parse_mask_strategy
from kinetoscope.data.text.prompts import split_json, split_prompt
from kinetoscope.inference.config import ClipRequest


def request_from_prompt(
    prompt: str, *, references: Sequence[str] = (), mask_strategy: str = "", **options: Any
) -> ClipRequest:
    """Return the request of a prompt with segments and a JSON suffix.

    Args:
        prompt: see `kinetoscope.data.text.prompts`.
        references: files; the prompt's own, if any, replace them.
        mask_strategy: the prompt's own, if any, replaces it.
        options: other fields of the request.

    Raises:
        ConfigError: the prompt's syntax is wrong, or the request can't be fulfilled.
        NotFoundError: a reference does not exist.
    """
    suffix = split_json(prompt)
    texts, starts = split_prompt(suffix.text)
    if suffix.reference_path is not None:
        references = [path.strip() for path in suffix.reference_path.split(";") if path.strip()]
    if suffix.mask_strategy is not None:
        mask_strategy = suffix.mask_strategy
    try:
        request = ClipRequest(
            prompt=texts[0],
            later_prompts=dict(zip((starts or [0])[1:], texts[1:], strict=True)),
            references=tuple(references),
            mask_strategy=mask_strategy,
            **options,
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{name} {first['input']!r}: {first['msg']}") from error
    check_request(request)
    return request


def check_request(request: ClipRequest) -> None:
    """Refuse a request that contradicts itself, whatever the model.

    Raises:
        ConfigError: says what contradicts what.
        NotFoundError: a reference does not exist.
    """
    late = [loop for loop in request.later_prompts if loop >= request.loops]
    if late:
        raise ConfigError(
            f"the prompt has a text for loop {late[0]}, but loops count from 0 and there are "
            f"{request.loops}",
            hint=f"ask for {max(late) + 1} loops, or leave the text out",
        )
    if request.condition_frames is not None and request.loops == 1:
        raise ConfigError(
            "condition frames continue a clip, but there is one loop", hint="ask for more loops"
        )
    _check_strategy(request)
    for path in request.references:
        _check_file(path)


def _check_strategy(request: ClipRequest) -> None:
    num_references = len(request.references)
    for group in parse_mask_strategy(request.mask_strategy):
        if group.reference >= num_references:
            raise ConfigError(
                f"the mask strategy {request.mask_strategy!r} uses reference {group.reference}, "
                f"but there are {num_references}",
                hint="references count from 0",
            )
        if group.loop >= request.loops:
            raise ConfigError(
                f"the mask strategy {request.mask_strategy!r} is for loop {group.loop}, but loops "
                f"count from 0 and there are {request.loops}"
            )
    if num_references > 1 and not request.mask_strategy:
        raise ConfigError(
            f"there are {num_references} references and no mask strategy",
            hint="'0;0,1,0,-1' starts the clip with the first and ends it with the second",
        )


def _check_file(path: str) -> None:
    if "://" in path:
        raise ConfigError(f"the reference {path!r} is no local file", hint="download it first")
    if not Path(path).is_file():
        raise NotFoundError(f"there is no reference {path!r}")
