"""What rectified flow asks of a model, and what it gives it.

Shapes: ``B`` batch, ``Z`` latent channels, ``t h w`` latents, ``S`` text tokens, ``P`` rows of
packed text, ``D`` width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor


class FlowModel(Protocol):
    """A transformer of any kind: what it is called with."""

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
        frame_mask_Bt: Tensor | None,
        drop_text_B: Tensor | None,
    ) -> Tensor:
        """Return a prediction whose first ``Z`` channels are the velocity."""
        ...


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a batch of clips is predicted from.

    Attributes:
        text_BSD: embeddings of the prompts; of packed text its rows, ``P D``.
        text_mask_BS: True where a text token counts; None is all.
        height_B: pixels, float.
        width_B: pixels, float.
        fps_B: frames per second, float.
        frame_mask_Bt: which frames are generated: 1 (True) is, 0 (False) is a clean condition
            frame. In sampling, a value between is an edit strength (`sampler.sample`). None is
            all 1.
        drop_text_B: True where the null text replaces the prompt (whose mask stays).
        text_places_P2: sample and position of each row of packed text
            (`models.layers.packed_text.text_places`); None: the text is padded. Only for models
            that take it so (`models.base.Transformer.takes_packed_text`).
    """

    text_BSD: Tensor
    text_mask_BS: Tensor | None
    height_B: Tensor
    width_B: Tensor
    fps_B: Tensor
    frame_mask_Bt: Tensor | None = None
    drop_text_B: Tensor | None = None
    text_places_P2: Tensor | None = None

    def with_null_text(self) -> Conditions:
        """Return the batch followed by itself with the null text, for guidance.

        Raises:
            ValueError: the text is packed.
        """
        if self.text_places_P2 is not None:
            raise ValueError("guidance takes padded text (text_places_P2 is given)")
        count = len(self.text_BSD)
        drop = torch.arange(2 * count, device=self.text_BSD.device) >= count
        return replace(
            self,
            text_BSD=_twice(self.text_BSD),
            text_mask_BS=None if self.text_mask_BS is None else _twice(self.text_mask_BS),
            height_B=_twice(self.height_B),
            width_B=_twice(self.width_B),
            fps_B=_twice(self.fps_B),
            frame_mask_Bt=None if self.frame_mask_Bt is None else _twice(self.frame_mask_Bt),
            drop_text_B=drop,
        )


def predict_velocity(
    model: FlowModel, x_BZthw: Tensor, timestep_B: Tensor, conditions: Conditions
) -> Tensor:
    """Return the model's velocity, ``B Z t h w``; a frame mask must be bool here."""
    places = conditions.text_places_P2
    packed = {} if places is None else {"text_places_P2": places}
    prediction = model(
        x_BZthw,
        timestep_B,
        conditions.text_BSD,
        conditions.text_mask_BS,
        height_B=conditions.height_B,
        width_B=conditions.width_B,
        fps_B=conditions.fps_B,
        frame_mask_Bt=conditions.frame_mask_Bt,
        drop_text_B=conditions.drop_text_B,
        **packed,
    )
    return prediction[:, : x_BZthw.shape[1]]


def _twice(x: Tensor) -> Tensor:
    return torch.cat((x, x))
