"""From a prompt to a clip.

Shape letters as in ``models/__init__.py``; clips are ``T H W C`` uint8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from kinetoscope.core.errors import ConfigError, CorruptError
from kinetoscope.core.keys import random_key
from kinetoscope.data.conditioning import condition_text
from kinetoscope.data.frames import to_frames
from kinetoscope.diffusion.config import SamplerConfig
from kinetoscope.diffusion.rectified_flow import keyed_noise, size_ratio
from kinetoscope.diffusion.sampler import Conditions, sample
from kinetoscope.inference.config import IMAGE_FPS, ClipSize
from kinetoscope.models.stdit import STDiT
from kinetoscope.models.text_encoders import build_text_encoder
from kinetoscope.models.video_vae import VideoVAE

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from kinetoscope.data.video_io import Frames
    from kinetoscope.inference.bundle import Bundle
    from kinetoscope.inference.config import ClipRequest

Module = TypeVar("Module", bound=nn.Module)


class TextToVideo:
    """Generates clips with a bundle's models.

    A clip is a pure function of the bundle and the request, whatever was generated before, so clips
    are made one at a time.

    Args:
        bundle: weights and configs.
        device: where the models run.
    """

    def __init__(self, bundle: Bundle, *, device: torch.device | str = "cpu") -> None:
        self.spec = bundle.spec
        self.device = torch.device(device)
        self.vae = _with_weights(VideoVAE(bundle.spec.vae), bundle.vae, "VAE").to(self.device)
        self.dit = _with_weights(STDiT(bundle.spec.dit), bundle.dit, "DiT").to(self.device)
        self.text_encoder = build_text_encoder(bundle.spec.text_encoder, device=self.device)

    @torch.no_grad()
    def generate(
        self, request: ClipRequest, on_step: Callable[[int, int], None] | None = None
    ) -> Frames:
        """Return a clip ``T H W 3``, RGB.

        Args:
            request: prompt, seed, and what differs from the bundle's defaults.
            on_step: called with (steps done, steps) after each step; may raise to stop.

        Raises:
            ConfigError: the VAE has no latents of the requested size.
        """
        size = self.clip_size(request)
        latents = self.vae.latent_size((size.num_frames, size.height, size.width))
        channels = self.spec.vae.spatial.latent_channels
        key = random_key("sample-noise", request.seed)
        z = sample(
            self.dit,
            keyed_noise([key], (channels, *latents), device=self.device),
            self._conditions(request, size),
            self._sampler(request),
            ratio=size_ratio(size.height, size.width, latents[0], self.spec.flow),
            on_step=on_step,
        )
        return to_frames(self.vae.decode(z, size.num_frames)[0])

    def clip_size(self, request: ClipRequest) -> ClipSize:
        """Return the size of the requested clip; raises ``ConfigError`` when it can't be made."""
        default = self.spec.size
        size = ClipSize(
            num_frames=request.num_frames or default.num_frames,
            height=request.height or default.height,
            width=request.width or default.width,
        )
        # Videos are stored as yuv420p, which needs even sides.
        stride = max(self.spec.vae.spatial.stride, 2)
        if size.height % stride or size.width % stride:
            raise ConfigError(
                f"{size.height}x{size.width} pixels can't be generated",
                hint=f"height and width must be multiples of {stride}",
            )
        return size

    def _conditions(self, request: ClipRequest, size: ClipSize) -> Conditions:
        fps = self.spec.fps if size.num_frames > 1 else IMAGE_FPS
        text, mask = self.text_encoder.encode([condition_text(request.prompt, self.spec.scores)])
        return Conditions(
            text_BSD=text,
            text_mask_BS=mask,
            height_B=self._number(size.height),
            width_B=self._number(size.width),
            fps_B=self._number(request.fps or fps),
        )

    def _sampler(self, request: ClipRequest) -> SamplerConfig:
        default = self.spec.sampler
        return SamplerConfig(
            num_steps=request.num_steps or default.num_steps,
            guidance=default.guidance if request.guidance is None else request.guidance,
        )

    def _number(self, value: float) -> Tensor:
        return torch.tensor([float(value)], device=self.device)


def _with_weights(model: Module, weights: dict[str, Tensor], name: str) -> Module:
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CorruptError(f"the weights do not fit the {name}'s config: {error}") from error
    return model.eval().requires_grad_(False)
