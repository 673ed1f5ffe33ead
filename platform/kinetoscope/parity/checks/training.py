"""Families ``lr_warmup`` and ``ema``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kinetoscope.parity.compare import CaseResult, attempt, tensor_cases, within
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.reference.ema import ReferenceEMA
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.loop.lr_schedule import learning_rate

_RATE_TOLERANCE = 1e-9


def check_lr_warmup(golden: GoldenFile) -> Iterator[CaseResult]:
    """Check the rates of every parameter group at every recorded step."""
    cases = zip(golden.data["in"]["cases"], golden.data["out"], strict=True)
    for number, (given, wanted) in enumerate(cases):
        name = f"{number}: warmup_steps={given['warmup_steps']}"

        def check(
            name: str = name, given: Mapping[str, Any] = given, wanted: Mapping[str, Any] = wanted
        ) -> CaseResult:
            return within(name, _rate_errors(given, wanted["lr_at_step"]), _RATE_TOLERANCE, "rel")

        yield attempt(name, check)


def _rate_errors(given: Mapping[str, Any], wanted: list[list[float]]) -> Iterator[float]:
    for step, rates in zip(given["record_steps"], wanted, strict=True):
        for base, rate in zip(given["base_lrs"], rates, strict=True):
            loop = TrainLoopConfig.model_validate(
                {
                    "num_steps": given["num_steps"],
                    "optimizer": {"lr": base},
                    "schedule": {"kind": "constant", "warmup_steps": given["warmup_steps"]},
                }
            )
            yield abs(learning_rate(step, loop) - rate) / rate


def check_ema(golden: GoldenFile) -> Iterator[CaseResult]:
    """Check the whole averaged state after every update."""
    yield from tensor_cases(golden, lambda case: _averages(golden, case))


def _averages(golden: GoldenFile, case: str) -> dict[str, Tensor]:
    config, inputs = golden.case_config(case), golden.inputs(case)
    # Sharded, the reference averages the fp32 master weights of a bf16 model, as we always do.
    rounded = config["model_dtype"] == "bfloat16" and not config["sharded"]
    model = _model(config["spec"], torch.bfloat16 if rounded else torch.float32)
    ema = ReferenceEMA(model, config["decay"])
    ema.import_state(_below("ema0/", inputs))
    averages: dict[str, Tensor] = {}
    for step in range(config["steps"]):
        model.load_state_dict(_below(f"model{step}/", inputs))
        ema.update()
        state = ema.export_state()
        averages |= {f"step{step}/{name}": tensor.clone() for name, tensor in state.items()}
    return averages


def _model(spec: Mapping[str, Mapping[str, Any]], dtype: torch.dtype) -> nn.Module:
    model = nn.Module()
    for name, entry in spec.items():
        # Names of nested parameters have dots: build the modules that hold them.
        *path, leaf = name.split(".")
        owner = model
        for part in path:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        tensor = torch.zeros(entry["shape"], dtype=dtype)
        if entry["buffer"]:
            owner.register_buffer(leaf, tensor)
        else:
            owner.register_parameter(leaf, nn.Parameter(tensor, entry["requires_grad"]))
    return model


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
