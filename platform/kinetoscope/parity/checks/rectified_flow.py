"""Rectified flow: times, noise, training loss and sampling, in compat mode ``reference_times``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.diffusion.flow_model import Conditions, FlowModel
from kinetoscope.diffusion.rectified_flow import (
    ClipSizes,
    add_noise,
    shift_by_size,
    training_loss,
)
from kinetoscope.diffusion.reference_times import ReferenceBase, reference_shift
from kinetoscope.diffusion.sampler import StepNoise, sample, sampling_schedule
from kinetoscope.models.weights.open_sora.load import load_open_sora_transformer
from kinetoscope.parity.checks.stub_flow import Recorder, StubFlow
from kinetoscope.parity.compare import CaseResult, tensor_cases
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.model_cases import differentiable, gradients_of
from kinetoscope.parity.reference.draws import reference_noise, reference_timesteps

_FLOW_FIELDS = {
    "num_timesteps": "num_timesteps",
    "use_timestep_transform": "shift_by_size",
    "transform_scale": "shift_scale",
    "loc": "logit_mean",
    "scale": "logit_std",
}
_FLOW_DEFAULTS: dict[str, Any] = {
    "timestep_distribution": "uniform",
    "shift_by_size": False,
    "reference_times": True,
    "nan_without_frames": True,
}
_SAMPLER_FIELDS = {
    "num_sampling_steps": "num_steps",
    "use_discrete_timesteps": "discrete_times",
}
_DEFAULT_STEPS, _DEFAULT_GUIDANCE = 10, 4.0
_OTHER_OPTIONS = {"sample_method", "cfg_scale"}
_BASE_FIELDS = {
    "base_resolution": "resolution",
    "base_num_frames": "num_frames",
    "scale": "scale",
    "num_timesteps": "num_timesteps",
}
_DEFAULT_BASE = {"num_timesteps": 1}
_STUB_INPUTS = {"y", "y_null", "height", "width", "num_frames", "fps", "ar", "mask"}


def check_rflow_timestep_transform(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare shifted times of every size of a case, each by itself and all as one batch."""

    def compute(case: str) -> Mapping[str, Tensor]:
        options, given = golden.case_config(case), golden.inputs(case)
        _refuse_unknown("options", options, {"call", "bf16_kwargs", "batched"})
        call = options.get("call", {})
        _refuse_unknown("arguments", call, set(_BASE_FIELDS))
        base = ReferenceBase(
            **_DEFAULT_BASE
            | {ours: call[theirs] for theirs, ours in _BASE_FIELDS.items() if theirs in call}
        )
        dtype = torch.bfloat16 if options.get("bf16_kwargs") else torch.float32
        height, width, num_frames = (
            given[key].to(dtype) for key in ("height", "width", "num_frames")
        )
        rows = zip(height.split(1), width.split(1), num_frames.split(1), strict=True)
        ours = {"t": torch.stack([reference_shift(given["t"], *row, base=base) for row in rows])}
        if options.get("batched"):
            together = reference_shift(given["t_batched"], height, width, num_frames, base=base)
            ours["t_batched"] = together
        return ours

    yield from tensor_cases(golden, compute)


def check_rflow_add_noise(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare noisy latents."""

    def compute(case: str) -> Mapping[str, Tensor]:
        given, flow = golden.inputs(case), _flow(_options(golden, case).get("scheduler", {}))
        _refuse_unknown("inputs", given, {"x", "noise", "t"})
        return {"x_t": add_noise(given["x"], given["noise"], given["t"] / flow.num_timesteps)}

    yield from tensor_cases(golden, compute)


def check_rflow_training(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare losses, the times drawn and the latents that the stub model is given."""

    def compute(case: str) -> Mapping[str, Tensor]:
        options, given = _options(golden, case), golden.inputs(case)
        _refuse_unknown("options", options, {"scheduler", "seed", "stub_model"})
        _refuse_unknown("inputs", given, _STUB_INPUTS | {"x_start", "x_mask", "noise", "t"})
        flow = _flow(options["scheduler"])
        leaves = differentiable(given, golden.outputs(case))
        given |= leaves
        timestep, noise = _times_and_noise(given, flow, options.get("seed"))
        mask = given.get("mask")
        model = Recorder(_training_stub(options["stub_model"], given), len(given["x_start"]))
        conditions = replace(
            _conditions(given), frame_mask_Bt=None if mask is None else mask.bool()
        )
        loss = training_loss(model, given["x_start"], noise, timestep, conditions, flow)
        if leaves:
            loss.sum().backward()
        return {
            "loss": loss,
            "x_t": model.latents[0],
            "t_used": timestep,
            **gradients_of(leaves),
        }

    yield from tensor_cases(golden, compute)


def check_rflow_sample(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare sampling from the stub model, step by step."""

    def compute(case: str) -> Mapping[str, Tensor]:
        given, options = golden.inputs(case), _options(golden, case)
        stub = StubFlow(options["stub_model"], given["y_null"].flatten(1, -2))
        return _sampled(stub, given, options)

    yield from tensor_cases(golden, compute)


def check_rflow_e2e(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare sampling from a whole model."""
    model = load_open_sora_transformer(golden.weights, golden.config["model"]).eval()
    yield from tensor_cases(
        golden, lambda case: _sampled(model, golden.inputs(case), _options(golden, case))
    )


def _sampled(
    model: FlowModel, given: Mapping[str, Tensor], options: Mapping[str, Any]
) -> dict[str, Tensor]:
    _refuse_unknown("inputs", given, _STUB_INPUTS | {"z", "y_mask", "step_noise"})
    scheduler = options["scheduler"]
    z, recorder = given["z"], Recorder(model, len(given["z"]))
    sizes = ClipSizes(given["height"], given["width"], given["num_frames"], z.shape[2])
    steps = {
        ours: scheduler[theirs] for theirs, ours in _SAMPLER_FIELDS.items() if theirs in scheduler
    }
    config = SamplerConfig(**{"num_steps": _DEFAULT_STEPS, **steps})
    schedule = sampling_schedule(config, _flow(scheduler), sizes)
    guidance = options.get("guidance_scale")
    if guidance is None:
        guidance = scheduler.get("cfg_scale", _DEFAULT_GUIDANCE)
    final = sample(
        recorder,
        z,
        replace(_conditions(given), frame_mask_Bt=given.get("mask")),
        replace(schedule, guidance=guidance),
        step_noise=_step_noise(given, config.num_steps, options.get("seed")),
    )
    ours = {
        "final": final,
        "model_z": torch.stack(recorder.latents),
        "model_t": torch.stack(recorder.timesteps),
    }
    return ours | ({"model_x_mask": torch.stack(recorder.masks)} if recorder.masks else {})


def _step_noise(given: Mapping[str, Tensor], num_steps: int, seed: int | None) -> StepNoise | None:
    if "step_noise" in given:
        return given["step_noise"].__getitem__
    if seed is None:
        return None
    generator = torch.Generator().manual_seed(seed)
    # The reference draws at every step, needed or not.
    return [reference_noise(given["z"], generator) for _ in range(num_steps)].__getitem__


def _training_stub(coefficients: Mapping[str, float], given: Mapping[str, Tensor]) -> StubFlow:
    """Return the stub; the reference can give its model another mask than the loss."""
    mask, model_mask = given.get("mask"), given.get("x_mask")
    if model_mask is None:
        return StubFlow({**coefficients, "d": 0.0})
    if mask is not None and torch.equal(mask, model_mask):
        return StubFlow(coefficients)
    return StubFlow(coefficients, frame_mask_Bt=model_mask)


def _times_and_noise(
    given: Mapping[str, Tensor], flow: RectifiedFlowConfig, seed: int | None
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator()
    if seed is not None:
        generator.manual_seed(seed)
    elif not {"t", "noise"} <= set(given):
        raise ValueError("times or noise are neither given nor seeded")
    x0 = given["x_start"]
    timestep = given.get("t")
    if timestep is None:
        sizes = ClipSizes(given["height"], given["width"], given["num_frames"], x0.shape[2])
        timestep = shift_by_size(reference_timesteps(len(x0), flow, generator), sizes, flow)
    noise = given["noise"] if "noise" in given else reference_noise(x0, generator)
    return timestep, noise


def _flow(scheduler: Mapping[str, Any]) -> RectifiedFlowConfig:
    _refuse_unknown(
        "options of the scheduler", scheduler, {*_FLOW_FIELDS, *_SAMPLER_FIELDS, *_OTHER_OPTIONS}
    )
    fields = {
        ours: scheduler[theirs] for theirs, ours in _FLOW_FIELDS.items() if theirs in scheduler
    }
    if scheduler.get("sample_method") == "logit-normal":
        fields["timestep_distribution"] = "logit_normal"
    if scheduler.get("use_discrete_timesteps"):
        fields["timestep_distribution"] = "discrete"
    return RectifiedFlowConfig(**_FLOW_DEFAULTS | fields)


def _conditions(given: Mapping[str, Tensor]) -> Conditions:
    return Conditions(
        text_BSD=given["y"].flatten(1, -2),
        text_mask_BS=given.get("y_mask"),
        height_B=given["height"],
        width_B=given["width"],
        fps_B=given["fps"],
    )


def _options(golden: GoldenFile, case: str) -> dict[str, Any]:
    """Return the case's options with those of the whole file."""
    common = {
        key: golden.config[key] for key in ("stub_model", "scheduler") if key in golden.config
    }
    return {**common, **golden.case_config(case)}


def _refuse_unknown(what: str, given: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValueError(f"{what} that are not understood: {', '.join(unknown)}")
