"""Mask strategies against the reference."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from kinetoscope.parity.compare import CaseResult, tensor_cases
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.reference.mask_strategy import reference_apply_mask_strategy


def check_mask_strategy(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare the latents with the references in them, and the mask."""

    def compute(case: str) -> dict[str, Tensor]:
        config, inputs = golden.case_config(case), golden.inputs(case)
        references = [
            [inputs[f"ref_{clip}_{number}"] for number in range(count)]
            for clip, count in enumerate(config["num_refs"])
        ]
        z, mask = reference_apply_mask_strategy(
            inputs["z"],
            references,
            config["mask_strategy"],
            loop=config.get("loop_i", 0),
            align=config.get("align"),
        )
        return {"z": z} if mask is None else {"z": z, "mask": mask}

    return tensor_cases(golden, compute)
