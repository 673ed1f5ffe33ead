"""Sampling: Euler steps of the flow, from noise to data, with classifier-free guidance.

Shapes: ``N`` steps, ``B`` batch, ``Z`` latent channels, ``t h w`` latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kinetoscope.core.keys import random_key
from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.diffusion.flow_model import Conditions, FlowModel, predict_velocity
from kinetoscope.diffusion.rectified_flow import ClipSizes, add_noise, keyed_noise, shift_by_size

StepNoise = Callable[[int], Tensor]
"""Gives the noise ``B Z t h w`` of a step (from 0)."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps of a sampling run.

    Attributes:
        timesteps_NB: the model's times from noise down, without the last, 0; one row per step. A
            single column serves a batch of any size.
        num_timesteps: the model's time of pure noise.
        guidance: how far to go from the null text's velocity to the prompt's and beyond.
    """

    timesteps_NB: Tensor
    num_timesteps: int
    guidance: float


def sampling_schedule(
    config: SamplerConfig, flow: RectifiedFlowConfig, sizes: ClipSizes
) -> Schedule:
    """Return evenly spaced times, shifted by size as in training.

    Args:
        config: number of steps, rounding and guidance.
        flow: how times are shifted. With ``reference_times``, Open-Sora 1.2's times, which leave
            out ``shift_scale`` here though its training does not.
        sizes: of the clips to generate.
    """
    steps = [(1.0 - i / config.num_steps) * flow.num_timesteps for i in range(config.num_steps)]
    rounded = [float(round(t)) for t in steps] if config.discrete_times else steps
    even_N = torch.tensor(rounded, dtype=torch.float32, device=sizes.height_B.device)
    timesteps_NB = even_N[:, None].expand(-1, len(sizes.height_B))
    if flow.reference_times:
        flow = flow.model_copy(update={"shift_scale": 1.0})
    shifted_NB = shift_by_size(timesteps_NB, sizes, flow)
    return Schedule(shifted_NB, flow.num_timesteps, config.guidance)


def keyed_step_noise(
    keys: Sequence[int], shape: Sequence[int], *, device: torch.device | str = "cpu"
) -> StepNoise:
    """Return noise for `sample` that depends on each sample's key and the step alone.

    Args:
        keys: one random key per sample (`core.keys.random_key`).
        shape: of one sample, ``(Z, t, h, w)``.
        device: where the noise goes.
    """
    return lambda step: keyed_noise(
        [random_key("step-noise", key, step) for key in keys], shape, device=device
    )


@torch.no_grad()
def sample(
    model: FlowModel,
    z_BZthw: Tensor,
    conditions: Conditions,
    schedule: Schedule,
    *,
    step_noise: StepNoise | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Integrate the flow from noise to latents ``BZthw``.

    A pure function of its inputs: nothing is drawn. Guidance (Ho and Salimans 2022) is
    ``v = v_null + guidance (v_text - v_null)``, both from one batch of twice the size; at guidance
    1 the null text cancels and isn't evaluated.

    With ``conditions.frame_mask_Bt``, a frame of value ``m`` is active, that is generated, while
    ``m * num_timesteps >= timestep`` (compared in float32); until then it is kept as it is and the
    model takes it as clean. So 0 keeps a frame and 1 generates it; a value between edits it
    (Meng et al. 2022): when such a frame becomes active it is noised to that step's time.

    Args:
        model: predicts the velocity; used as it is (call ``eval`` yourself).
        z_BZthw: standard normal noise, and clean latents in the frames whose mask is below 1. Its
            dtype is kept.
        conditions: of each clip, on the device of ``z``. What ``drop_text_B`` says is overridden
            by guidance.
        schedule: times and guidance (`sampling_schedule`).
        step_noise: noise for frames that become active; called for such steps alone, with the
            number of the step (`keyed_step_noise`).
        on_step: called with (steps done, steps) after each step; may raise to stop.

    Raises:
        ValueError: the mask doesn't fit or is not within [0, 1], or a frame's mask is between 0
            and 1 and there is no ``step_noise``.
    """
    times_NB = schedule.timesteps_NB.to(z_BZthw.device).expand(-1, len(z_BZthw))
    guidance = schedule.guidance if schedule.guidance != 1.0 else None
    inputs = conditions if guidance is None else conditions.with_null_text()
    frames = _FrameActivity.of(conditions.frame_mask_Bt, schedule, z_BZthw)
    following_NB = torch.cat((times_NB[1:], torch.zeros_like(times_NB[:1])))
    z = z_BZthw
    for index, (now_B, next_B) in enumerate(zip(times_NB, following_NB, strict=True)):
        if frames is not None:
            z = frames.noised(z, index, now_B / schedule.num_timesteps, step_noise)
            inputs = replace(inputs, frame_mask_Bt=frames.of_model(index, guidance))
        velocity = _velocity(model, z, now_B, inputs, guidance)
        tau_step_B = (now_B - next_B) / schedule.num_timesteps
        moved = z + velocity * _per_sample(tau_step_B).to(z.dtype)
        z = moved if frames is None else frames.kept(z, moved, index)
        if on_step is not None:
            on_step(index + 1, len(times_NB))
    return z


@dataclass(frozen=True, slots=True)
class _FrameActivity:
    """Which frames are generated at each step, and which start there from their given latents."""

    active_NBt: Tensor
    starting_NBt: Tensor
    steps_with_start: frozenset[int]

    @classmethod
    def of(
        cls, mask_Bt: Tensor | None, schedule: Schedule, z_BZthw: Tensor
    ) -> _FrameActivity | None:
        if mask_Bt is None:
            return None
        mask_Bt = mask_Bt.to(device=z_BZthw.device, dtype=torch.float32)
        if mask_Bt.shape != (len(z_BZthw), z_BZthw.shape[2]):
            raise ValueError(
                f"frame mask is {tuple(mask_Bt.shape)}, not {(len(z_BZthw), z_BZthw.shape[2])}"
            )
        if not bool(((mask_Bt >= 0) & (mask_Bt <= 1)).all()):
            raise ValueError(f"frame mask has values outside [0, 1]: {mask_Bt.tolist()}")
        times_NB = schedule.timesteps_NB.to(z_BZthw.device)
        active_NBt = mask_Bt * schedule.num_timesteps >= times_NB[:, :, None]
        # Frames of value 1 are noise from the start.
        before_NBt = torch.cat(((mask_Bt == 1)[None], active_NBt[:-1]))
        starting_NBt = active_NBt & ~before_NBt
        starts = starting_NBt.flatten(1).any(dim=1).nonzero().flatten().tolist()
        return cls(active_NBt, starting_NBt, frozenset(starts))

    def noised(self, z: Tensor, index: int, tau_B: Tensor, step_noise: StepNoise | None) -> Tensor:
        if index not in self.steps_with_start:
            return z
        if step_noise is None:
            raise ValueError("a frame mask between 0 and 1 needs step_noise")
        noise = step_noise(index).to(device=z.device, dtype=z.dtype)
        return torch.where(_per_frame(self.starting_NBt[index]), add_noise(z, noise, tau_B), z)

    def of_model(self, index: int, guidance: float | None) -> Tensor:
        active_Bt = self.active_NBt[index]
        return active_Bt if guidance is None else torch.cat((active_Bt, active_Bt))

    def kept(self, z: Tensor, moved: Tensor, index: int) -> Tensor:
        return torch.where(_per_frame(self.active_NBt[index]), moved, z)


def _velocity(
    model: FlowModel, z: Tensor, now_B: Tensor, inputs: Conditions, guidance: float | None
) -> Tensor:
    if guidance is None:
        return predict_velocity(model, z, now_B, inputs).to(z.dtype)
    both = predict_velocity(model, torch.cat((z, z)), torch.cat((now_B, now_B)), inputs)
    # Guidance multiplies what a half precision rounds away.
    with_text, without_text = both.to(z.dtype).chunk(2)
    return without_text + guidance * (with_text - without_text)


def _per_sample(x_B: Tensor) -> Tensor:
    return x_B[:, None, None, None, None]


def _per_frame(x_Bt: Tensor) -> Tensor:
    return x_Bt[:, None, :, None, None]
