"""Training frame masks: the reference's draws exactly, ours by frequency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from kinetoscope.core.keys import random_key
from kinetoscope.diffusion.config import FrameMaskName, FrameMaskRatios
from kinetoscope.diffusion.frame_masks import draw_frame_masks
from kinetoscope.parity.compare import CaseResult, attempt, exact_cases, failed, within
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.raising import outcome
from kinetoscope.parity.reference.frame_masks import ReferenceFrameMasks

_ALLOWED_FREQUENCY_ERROR = 0.015
_REFERENCE_NAMES = {"interpolate": "intepolate"}
_RATIOS: TypeAdapter[dict[FrameMaskName, float]] = TypeAdapter(FrameMaskRatios)


def check_mask_generator(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare forced strategies and whole batches draw by draw, and frequencies of ours."""
    exact: dict[str, Callable[[Mapping[str, Any]], object]] = {
        "forced": _forced,
        "batched": _batched,
    }
    for section, wanted in golden.data["out"].items():
        cases = zip(golden.data["in"][section], wanted, strict=True)
        if section in exact:
            yield from exact_cases(
                (_name(section, case), partial(outcome, partial(exact[section], case), out), out)
                for case, out in cases
            )
        elif section == "stats":
            for case, out in cases:
                name = _name(section, case)
                yield attempt(name, partial(_frequencies, name, case, out))
        else:
            yield failed(section, f"no section of the file is called {section!r}")


def _name(section: str, case: Mapping[str, Any]) -> str:
    ratios = case.get("mask_ratios", {})
    strategy = case.get("name") or (next(iter(ratios)) if len(ratios) == 1 else "mixed")
    return f"{section} {strategy} t={case['T']} seed={case['seed']}"


def _forced(case: Mapping[str, Any]) -> object:
    masks = ReferenceFrameMasks({case["name"]: 1.0}, case["seed"])
    return [_as_ints(masks.draw(case["T"])) for _ in range(case["draws"])]


def _batched(case: Mapping[str, Any]) -> object:
    masks = ReferenceFrameMasks(case["mask_ratios"], case["seed"])
    return {
        "mask_ratios_after_init": [
            [_REFERENCE_NAMES.get(name, name), ratio] for name, ratio in masks.ratios.items()
        ],
        "masks": [_as_ints(masks.draw(case["T"])) for _ in range(case["B"])],
    }


def _as_ints(mask: Tensor) -> list[int]:
    values: list[int] = mask.int().tolist()
    return values


def _frequencies(name: str, case: Mapping[str, Any], wanted: Mapping[str, Any]) -> CaseResult:
    """Compare frequencies of our default draws; where the reference fails, of its own draws."""
    if "raises" in wanted:
        raised = outcome(partial(_masks, case, reference=True), wanted) is wanted
        return within(name, [0.0 if raised else 1.0], 0, "raises")
    count = case["N"]
    # Two frames with both ends given: the reference leaves none to generate, which we never do.
    masks = _masks(case, reference=wanted["hist_num_false"][-1] > 0)
    given = ~masks
    ours = {
        "frac_false_per_frame": given.float().mean(dim=0).tolist(),
        "frac_all_true": [masks.all(dim=1).float().mean().item()],
        "hist_num_false": [
            x / count for x in torch.bincount(given.sum(dim=1), minlength=case["T"] + 1).tolist()
        ],
    }
    theirs = {
        **wanted,
        "frac_all_true": [wanted["frac_all_true"]],
        "hist_num_false": [x / count for x in wanted["hist_num_false"]],
    }
    if set(theirs) != set(ours):
        return failed(name, f"statistics that we do not compute: {sorted(set(theirs) - set(ours))}")
    errors = [abs(a - b) for key in ours for a, b in zip(ours[key], theirs[key], strict=True)]
    return within(name, errors, _ALLOWED_FREQUENCY_ERROR, "per frequency")


def _masks(case: Mapping[str, Any], *, reference: bool) -> Tensor:
    if reference:
        masks = ReferenceFrameMasks(case["mask_ratios"], case["seed"])
        return torch.stack([masks.draw(case["T"]) for _ in range(case["N"])])
    ratios = _RATIOS.validate_python(case["mask_ratios"])
    keys = [random_key("frequencies", case["seed"], index) for index in range(case["N"])]
    return draw_frame_masks(keys, case["T"], ratios)
