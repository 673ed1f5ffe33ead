"""The golden files' linear model of the flow, and a recorder of what a model is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kinetoscope.diffusion.flow_model import FlowModel


@dataclass(frozen=True, slots=True)
class StubFlow:
    """``v = a x + b timestep / 1000 + c mean(text) + d frame mask``, then as many zeros.

    Attributes:
        coefficients: ``a`` to ``d``.
        null_text_BSD: stands for dropped text.
        frame_mask_Bt: taken in place of what the model is given, where the file has its own.
    """

    coefficients: Mapping[str, float]
    null_text_BSD: Tensor | None = None
    frame_mask_Bt: Tensor | None = None

    def __call__(
        self,
        x_BZthw: Tensor,
        timestep_B: Tensor,
        text_BSD: Tensor,
        text_mask_BS: Tensor | None,  # noqa: ARG002 - a FlowModel
        /,
        *,
        drop_text_B: Tensor | None,
        frame_mask_Bt: Tensor | None,
        **sizes: Tensor,  # noqa: ARG002 - a FlowModel
    ) -> Tensor:
        """Return the velocity and zeros, twice the channels of ``x``."""
        if drop_text_B is not None:
            if self.null_text_BSD is None:
                raise ValueError("the case has no null text")
            null = self.null_text_BSD.repeat(len(text_BSD) // len(self.null_text_BSD), 1, 1)
            text_BSD = torch.where(drop_text_B[:, None, None], null, text_BSD)
        c = self.coefficients
        shift_B = c["b"] * timestep_B / 1000 + c["c"] * text_BSD.mean(dim=(1, 2))
        velocity = c["a"] * x_BZthw + shift_B[:, None, None, None, None]
        mask_Bt = frame_mask_Bt if self.frame_mask_Bt is None else self.frame_mask_Bt
        if mask_Bt is not None:
            velocity = velocity + c["d"] * mask_Bt[:, None, :, None, None]
        return torch.cat((velocity, torch.zeros_like(velocity)), dim=1)


@dataclass(slots=True)
class Recorder:
    """A model that keeps what it was given.

    Attributes:
        model: what answers.
        batch: size of the batch, before it is doubled for guidance.
    """

    model: FlowModel
    batch: int
    latents: list[Tensor] = field(default_factory=list)
    timesteps: list[Tensor] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)

    def __call__(
        self,
        x_BZthw: Tensor,
        timestep_B: Tensor,
        text_BSD: Tensor,
        text_mask_BS: Tensor | None,
        /,
        **conditions: Any,
    ) -> Tensor:
        """Call the model."""
        self.latents.append(x_BZthw[: self.batch])
        self.timesteps.append(timestep_B[: self.batch])
        mask_Bt = conditions["frame_mask_Bt"]
        if mask_Bt is not None:
            # At guidance 1 there is no second half, whose mask would be the same.
            self.masks.append(mask_Bt[: self.batch].repeat(2, 1))
        return self.model(x_BZthw, timestep_B, text_BSD, text_mask_BS, **conditions)
