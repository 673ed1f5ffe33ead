"""Open-Sora 1.2's own draws of frame masks.

A slow path, one sample at a time: its draws come from two streams, in order. Training uses
`frame_masks.draw_frame_masks`, whose masks have the same distribution.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import torch
from pydantic import TypeAdapter
from torch import Tensor

from kinetoscope.diffusion.config import FrameMaskName, FrameMaskRatios
from kinetoscope.diffusion.frame_masks import LEAST_GIVEN, MAX_QUARTER, MOST_GIVEN

_RATIOS: TypeAdapter[dict[FrameMaskName, float]] = TypeAdapter(FrameMaskRatios)


class ReferenceFrameMasks:
    """Draws masks in the reference's order, with its failures.

    Unlike our own masks, ``quarter_*`` raise for 2 and 3 frames and ``image_head_tail`` leaves no
    frame to generate of 2.

    Args:
        ratios: probability of each strategy, in the order in which they are compared;
            ``identity`` gets the rest.
        seed: of both streams.

    Raises:
        ValueError: an unknown strategy, or probabilities that do not sum to 1.
    """

    def __init__(self, ratios: Mapping[str, float], seed: int) -> None:
        self.ratios = _RATIOS.validate_python(dict(ratios))
        if "identity" not in self.ratios:
            self.ratios["identity"] = 1.0 - sum(self.ratios.values())
        total = sum(self.ratios.values())
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"the probabilities of the frame masks sum to {total:g}, not to 1")
        self._python = random.Random(seed)  # noqa: S311 - the reference's stream
        self._torch = torch.Generator().manual_seed(seed)

    def draw(self, latent_frames: int) -> Tensor:
        """Draw one mask ``t``, bool; True is a frame to generate.

        Raises:
            ValueError: a quarter of 2 or 3 frames was drawn.
        """
        name = self._name()
        mask_t = torch.ones(latent_frames, dtype=torch.bool)
        if latent_frames <= 1 or name == "identity":
            return mask_t
        if name == "random":
            share = self._python.uniform(LEAST_GIVEN, MOST_GIVEN)
            mask_t = torch.rand(latent_frames, generator=self._torch) > share
            mask_t[-1] |= not mask_t.any()
            return mask_t
        if name == "interpolate":
            mask_t[self._python.randint(0, 1) :: 2] = False
            return mask_t
        return self._without_span(mask_t, *name.split("_", maxsplit=1))

    def _name(self) -> FrameMaskName:
        draw, total = self._python.random(), 0.0
        for name, ratio in self.ratios.items():
            total += ratio
            if draw < total:
                return name
        return "identity"

    def _without_span(self, mask_t: Tensor, size_name: str, place: str) -> Tensor:
        count = len(mask_t)
        size = 1
        if size_name == "quarter":
            if count < MAX_QUARTER:
                raise ValueError(f"{count} latent frames have no quarter")
            size = self._python.randint(1, count // MAX_QUARTER)
        if place == "random":
            start = self._python.randint(0, count - size)
            mask_t[start : start + size] = False
        if place in ("head", "head_tail"):
            mask_t[:size] = False
        if place in ("tail", "head_tail"):
            mask_t[-size:] = False
        return mask_t
