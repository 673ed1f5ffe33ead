"""Sampling: Euler steps of the flow, from noise to data, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from kinetoscope.diffusion.config import SamplerConfig
from kinetoscope.diffusion.rectified_flow import MODEL_TIME_SCALE, shift_times


class FlowModel(Protocol):
    """What the sampler calls: `kinetoscope.models.stdit.STDiT`, or anything with its inputs."""

    def __call__(  # noqa: PLR0913 - one parameter per condition of the model
        self,
        x_BZthw: Tensor,
        timestep_B: Tensor,
        text_BSD: Tensor,
        text_mask_BS: Tensor | None,
        /,
        *,
        height_B: Tensor,
        width_B: Tensor,
        fps_B: Tensor,
        drop_text_B: Tensor | None,
    ) -> Tensor:
        """Return a prediction whose first ``Z`` channels are the velocity."""
        ...


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a batch of clips is generated from.

    Attributes:
        text_BSD: embeddings of the prompts.
        text_mask_BS: True where a text token counts; None is all.
        height_B: pixels, float.
        width_B: pixels, float.
        fps_B: frames per second, float.
    """

    text_BSD: Tensor
    text_mask_BS: Tensor | None
    height_B: Tensor
    width_B: Tensor
    fps_B: Tensor

    def twice(self) -> Conditions:
        """Return the batch followed by itself."""
        mask = self.text_mask_BS
        return Conditions(
            text_BSD=torch.cat((self.text_BSD, self.text_BSD)),
            text_mask_BS=None if mask is None else torch.cat((mask, mask)),
            height_B=torch.cat((self.height_B, self.height_B)),
            width_B=torch.cat((self.width_B, self.width_B)),
            fps_B=torch.cat((self.fps_B, self.fps_B)),
        )


def sampling_times(num_steps: int, ratio: float) -> Tensor:
    """Return ``num_steps + 1`` times from 1 (noise) to 0 (data), evenly spaced, then shifted."""
    even = 1 - torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    return shift_times(even, ratio).float()


@torch.no_grad()
def sample(
    model: FlowModel,
    noise_BZthw: Tensor,
    conditions: Conditions,
    config: SamplerConfig,
    *,
    ratio: float = 1.0,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Integrate the flow from noise to latents ``BZthw``.

    A pure function of its inputs: nothing is drawn. Guidance (Ho and Salimans 2022) is
    ``v = v_null + guidance (v_text - v_null)``, both from one batch of twice the size; at guidance
    1 the null text cancels and isn't evaluated.

    Args:
        model: predicts the velocity; used as it is (call ``eval`` yourself).
        noise_BZthw: standard normal noise, whose dtype the integration keeps.
        conditions: text, size and frame rate of each clip, on the noise's device.
        config: number of steps and guidance.
        ratio: shift of the times by size, as in training (`rectified_flow.size_ratio`).
        on_step: called with (steps done, steps) after each step; may raise to stop.
    """
    times = sampling_times(config.num_steps, ratio).tolist()
    guided = config.guidance != 1.0
    inputs = conditions.twice() if guided else conditions
    z = noise_BZthw
    for index, (now, after) in enumerate(pairwise(times)):
        velocity = _velocity(model, z, now, inputs, config.guidance if guided else None)
        z = z + velocity.to(z.dtype) * (now - after)
        if on_step is not None:
            on_step(index + 1, config.num_steps)
    return z


def _velocity(
    model: FlowModel, z_BZthw: Tensor, tau: float, inputs: Conditions, guidance: float | None
) -> Tensor:
    batch, channels = z_BZthw.shape[:2]
    x = z_BZthw if guidance is None else torch.cat((z_BZthw, z_BZthw))
    prediction = model(
        x,
        torch.full((len(x),), tau * MODEL_TIME_SCALE, device=x.device),
        inputs.text_BSD,
        inputs.text_mask_BS,
        height_B=inputs.height_B,
        width_B=inputs.width_B,
        fps_B=inputs.fps_B,
        drop_text_B=None if guidance is None else torch.arange(len(x), device=x.device) >= batch,
    )[:, :channels]
    if guidance is None:
        return prediction
    with_text, without_text = prediction.chunk(2)
    return without_text + guidance * (with_text - without_text)
