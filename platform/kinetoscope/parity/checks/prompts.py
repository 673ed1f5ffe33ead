"""Prompt helpers against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kinetoscope.core.errors import ConfigError
from kinetoscope.data.text.mask_strategy import MaskGroup, mask_groups
from kinetoscope.data.text.prompts import PromptScores, merge_prompt
from kinetoscope.inference.config import ClipSize
from kinetoscope.parity.compare import CaseResult, exact_cases, failed
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.raising import outcome
from kinetoscope.parity.reference.file_names import reference_path_name
from kinetoscope.parity.reference.loops import frames_of_pieces
from kinetoscope.parity.reference.mask_strategy import (
    reference_continue_from,
    reference_snap_start,
)
from kinetoscope.parity.reference.prompts import (
    reference_append_scores,
    reference_condition_prompt,
    reference_prompt_of_loop,
    reference_split_json,
    reference_split_prompt,
)
from kinetoscope.parity.reference.resolution_info import InfoKind, resolution_info

_SOURCES = {"merge_of_split": "split_prompt"}
"""Outputs whose inputs have another name."""

_INFO_KINDS: dict[str | None, InfoKind | None] = {
    None: None,
    "PixArtMS": "pixart",
    "STDiT2": "stdit",
    "OpenSora": "stdit",
}


def check_prompts(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare every function of the file, one case per function."""
    inputs, outputs = golden.data["in"], golden.data["out"]
    for name in inputs:
        if name not in outputs:
            yield failed(name, "inputs without outputs")
    for name, wanted in outputs.items():
        function = _FUNCTIONS.get(name)
        if function is None:
            yield failed(name, f"no function is called {name!r}")
            continue
        arguments = inputs[_SOURCES.get(name, name)]
        yield from exact_cases([(name, partial(_calls, function, arguments, wanted), wanted)])


def _calls(function: Callable[[Any], Any], arguments: list[Any], wanted: list[Any]) -> list[object]:
    pairs = zip(arguments, wanted, strict=True)
    return [outcome(partial(function, argument), value) for argument, value in pairs]


def _append_scores(case: dict[str, Any]) -> list[str]:
    scores = _scores(case["kwargs"])
    return [reference_append_scores(text, scores) for text in case["prompts"]]


def _scores(kwargs: dict[str, Any]) -> PromptScores:
    return PromptScores(kwargs.get("aes"), kwargs.get("flow"), kwargs.get("camera_motion"))


def _parse(strategy: str | None) -> list[list[float]]:
    return [list(group) for group in mask_groups(strategy)]


def _split(prompt: str) -> list[object]:
    return list(reference_split_prompt(prompt))


def _merge(prompt: str) -> str:
    return merge_prompt(*reference_split_prompt(prompt))


def _of_loop(case: dict[str, Any]) -> list[str]:
    loop = case["num_loop"]
    return [reference_prompt_of_loop(text, loop) for text in case["prompts"]]


def _split_json(case: dict[str, Any]) -> list[list[str]]:
    texts, references, strategies = [], list(case["reference"]), list(case["mask_strategy"])
    for index, prompt in enumerate(case["prompts"]):
        found = reference_split_json(prompt)
        texts.append(found.text)
        if found.reference_path is not None:
            references[index] = found.reference_path
        if found.mask_strategy is not None:
            strategies[index] = found.mask_strategy
    return [texts, references, strategies]


def _nearest_point(case: list[int]) -> int:
    return reference_snap_start(*case)


def _append_generated(case: dict[str, Any]) -> dict[str, Any]:
    group = MaskGroup(
        loop=case["loop_i"],
        length=case["condition_frame_length"],
        edit=case["condition_frame_edit"],
    )
    pairs = [
        reference_continue_from(own, strategy, f"enc{index}", group=group)
        for index, (own, strategy) in enumerate(
            zip(case["refs_x"], case["mask_strategy"], strict=True)
        )
    ]
    return {"refs_x": [own for own, _ in pairs], "mask_strategy": [text for _, text in pairs]}


def _path_name(case: dict[str, Any]) -> str:
    return reference_path_name(
        case["save_dir"],
        case["sample_idx"],
        name=case["sample_name"],
        prompt=case["prompt"] if case["prompt_as_path"] else None,
        copy=case["k"] if case["num_sample"] != 1 else None,
    )


def _resolution_info(case: dict[str, Any]) -> dict[str, object]:
    if case["info_type"] not in _INFO_KINDS:
        raise ConfigError(f"no model is told {case['info_type']!r}")
    height, width = case["image_size"]
    tensors = resolution_info(
        _INFO_KINDS[case["info_type"]],
        ClipSize(num_frames=case["num_frames"], height=height, width=width),
        case["fps"],
        batch_size=case["batch_size"],
        dtype=getattr(torch, case["dtype"]),
    )
    return {name: _described(tensor) for name, tensor in tensors.items()}


def _described(tensor: Tensor) -> dict[str, object]:
    return {
        "value": tensor.tolist(),
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype),
    }


def _pipeline(case: dict[str, Any]) -> dict[str, object]:
    merged = reference_condition_prompt(case["prompt"], _scores(case["kwargs"]))
    loops = range(case["loop"])
    per_loop = [reference_prompt_of_loop(merged, loop) for loop in loops]
    return {"merged": merged, "per_loop": per_loop}


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "append_score_to_prompts": _append_scores,
    "parse_mask_strategy": _parse,
    "split_prompt": _split,
    "merge_of_split": _merge,
    "extract_prompts_loop": _of_loop,
    "extract_json_from_prompts": _split_json,
    "find_nearest_point": _nearest_point,
    "dframe_to_frame": frames_of_pieces,
    "append_generated": _append_generated,
    "get_save_path_name": _path_name,
    "prepare_multi_resolution_info": _resolution_info,
    "inference_prompt_pipeline": _pipeline,
}
