"""Open-Sora 1.2's draws of training: one stream per process, in order.

A slow path. Training draws each sample by its own key instead (`rectified_flow.draw_times`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kinetoscope.diffusion.config import RectifiedFlowConfig


def reference_timesteps(
    count: int, config: RectifiedFlowConfig, generator: torch.Generator
) -> Tensor:
    """Draw the model's times ``B`` as the reference does, before their shift.

    It draws them first, then the noise (`reference_noise`).

    Args:
        count: of samples.
        config: distribution of the times; discrete ones are int64.
        generator: seeded as the reference seeds torch's global one.
    """
    if config.timestep_distribution == "discrete":
        return torch.randint(0, config.num_timesteps, (count,), generator=generator)
    if config.timestep_distribution == "uniform":
        return torch.rand(count, generator=generator) * config.num_timesteps
    shape = (count, 1)
    normal = torch.normal(
        torch.full(shape, config.logit_mean),
        torch.full(shape, config.logit_std),
        generator=generator,
    )
    limits = torch.finfo(normal.dtype)
    # torch.distributions.LogisticNormal keeps off 0 and 1 so
    tau = torch.sigmoid(normal[:, 0]).clamp(limits.tiny, 1 - limits.eps)
    return tau * config.num_timesteps


def reference_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw noise like a tensor from the stream of `reference_timesteps`, where its generator is."""
    noise = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
    return noise.to(like.device)
