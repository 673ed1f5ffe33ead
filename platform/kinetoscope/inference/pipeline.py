"""From a prompt to a clip.

Shape letters as in ``models/__init__.py``; clips are ``T H W C`` uint8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kinetoscope.core.errors import ConfigError, CorruptError
from kinetoscope.core.keys import random_key
from kinetoscope.data.conditioning import (
    condition_text,
    conditioning_scores,
    count_too_long,
    encode_conditions,
    split_conditioning,
)
from kinetoscope.data.text.cleaning import clean_caption
from kinetoscope.data.text.mask_strategy import MaskGroup, continue_from
from kinetoscope.data.video.clip_reader import to_frames
from kinetoscope.diffusion.config import SamplerConfig
from kinetoscope.diffusion.flow_model import Conditions
from kinetoscope.diffusion.rectified_flow import ClipSizes, keyed_noise
from kinetoscope.diffusion.sampler import keyed_step_noise, sample, sampling_schedule
from kinetoscope.inference.config import IMAGE_FPS, ClipSize
from kinetoscope.inference.loops import Pieces, condition_frames
from kinetoscope.inference.mask_strategy import apply_mask_strategy
from kinetoscope.inference.references import encode_frames, read_reference
from kinetoscope.inference.requests import check_request
from kinetoscope.models.base import build_autoencoder, build_transformer
from kinetoscope.models.config import multiples
from kinetoscope.models.device import ON_CPU, Compute
from kinetoscope.models.text.encoders import build_text_encoder
from kinetoscope.models.weights.load import load_model

if TYPE_CHECKING:
    from kinetoscope.data.video.display import Frames
    from kinetoscope.inference.bundle import Bundle
    from kinetoscope.inference.config import ClipRequest

_Model = TypeVar("_Model", bound=nn.Module)

OnStep = Callable[[int, int], None]
"""Called with steps done and steps."""


@dataclass(frozen=True, slots=True)
class _Start:
    """What a loop starts from: the key of its noise, latents, and the mask (None: all new)."""

    key: int
    z_BZthw: Tensor
    mask_Bt: Tensor | None


class TextToVideo:
    """Generates clips with a bundle's models.

    A clip is a pure function of the bundle, the request and the precision, whatever was generated
    before, so clips are made one at a time. Noise, and latents between steps, are fp32 in any.

    Args:
        bundle: weights and configs.
        compute: where the models run, and in which precision (`models.device.begin_computing`).
    """

    def __init__(self, bundle: Bundle, compute: Compute = ON_CPU) -> None:
        self.spec = bundle.spec
        self.compute = compute
        self.vae = self._used(lambda: build_autoencoder(bundle.spec.vae), bundle.vae)
        self.dit = self._used(lambda: build_transformer(bundle.spec.dit), bundle.dit)
        self.text_encoder = build_text_encoder(
            bundle.spec.text_encoder, device=compute.device, dtype=compute.dtype
        )
        self._pieces = Pieces(bundle.spec.vae.chunk_frames, bundle.spec.vae.frames_per_latent)

    def with_transformer(self, weights: Mapping[str, Tensor]) -> TextToVideo:
        """Return the same with other weights of the transformer; the other models are shared."""
        other = copy(self)
        other.dit = self._used(lambda: build_transformer(self.spec.dit), weights)
        return other

    def _used(self, build: Callable[[], _Model], weights: Mapping[str, Tensor]) -> _Model:
        try:
            model = load_model(build, weights)
        except ConfigError as error:
            raise CorruptError(f"the bundle's weights and configs disagree: {error}") from error
        return model.eval().requires_grad_(False).to(self.compute.device)

    @torch.no_grad()
    def generate(self, request: ClipRequest, on_step: OnStep | None = None) -> Frames:
        """Return a clip ``T H W 3``, RGB; that of several loops is joined.

        Args:
            request: prompt, seed, and what differs from the bundle's defaults.
            on_step: called with (steps done, steps of all loops) after each step; may raise to
                stop.

        Raises:
            ConfigError: the VAE has no latents of the requested size, or the request contradicts
                itself (`requests.check_request`).
            NotFoundError: a reference does not exist.
            DataError: a reference can't be decoded.
        """
        check_request(request)
        with self.compute.autocast():
            return self._generate(request, on_step)

    def _generate(self, request: ClipRequest, on_step: OnStep | None) -> Frames:
        size = self.clip_size(request)
        overlap = self._overlap(request, size)
        references = [self._encode_reference(path, request, size) for path in request.references]
        strategy = request.mask_strategy or ("0" if references else "")
        clips: list[Frames] = []
        for loop in range(request.loops):
            if loop:
                # The VAE's pieces are independent: these are the last latents of the whole clip
                # where that is whole pieces, and begin a piece where it is not.
                tail = encode_frames(self.vae, clips[-1][-overlap:])
                group = MaskGroup(loop=loop, length=tail.shape[1], edit=request.condition_edit)
                references, strategy = continue_from(references, strategy, tail, group=group)
            start = self._start(request, size, loop, references, strategy)
            clips.append(self._sample(request, size, loop, start, on_step))
        return np.concatenate([clips[0], *(clip[overlap:] for clip in clips[1:])])

    def clip_size(self, request: ClipRequest) -> ClipSize:
        """Return the size of the requested clip; raises ``ConfigError`` when it can't be made."""
        default = self.spec.size
        size = ClipSize(
            num_frames=request.num_frames or default.num_frames,
            height=request.height or default.height,
            width=request.width or default.width,
        )
        # Videos are stored as yuv420p, which needs even sides.
        rows, columns = (math.lcm(pixels, 2) for pixels in self.spec.vae.pixel_multiple)
        if size.height % rows or size.width % columns:
            raise ConfigError(
                f"{size.height}x{size.width} pixels can't be generated",
                hint=f"height and width must be {multiples(rows, columns)}",
            )
        return size

    def _overlap(self, request: ClipRequest, size: ClipSize) -> int:
        if request.loops == 1:
            return 0
        return condition_frames(size.num_frames, self._pieces, request.condition_frames)

    def _encode_reference(self, path: str, request: ClipRequest, size: ClipSize) -> Tensor:
        fps = request.fps or self.spec.fps
        frames = read_reference(Path(path), (size.height, size.width), fps)
        return encode_frames(self.vae, frames)

    def _start(
        self,
        request: ClipRequest,
        size: ClipSize,
        loop: int,
        references: list[Tensor],
        strategy: str,
    ) -> _Start:
        key = _noise_key(request.seed, loop)
        noise = keyed_noise([key], self._latent_shape(size), device=self.compute.device)
        z, mask = apply_mask_strategy(
            noise, [references], [strategy], loop=loop, align=self._pieces.latents
        )
        everything = mask is None or bool((mask == 1).all())
        return _Start(key, z, None if everything else mask)

    def _sample(
        self, request: ClipRequest, size: ClipSize, loop: int, start: _Start, on_step: OnStep | None
    ) -> Frames:
        pixels = (size.num_frames, size.height, size.width)
        sampler = self._sampler(request)
        z = sample(
            self.dit,
            start.z_BZthw,
            self._conditions(request, size, loop, start.mask_Bt),
            sampling_schedule(
                sampler, self.spec.flow, ClipSizes.of(pixels, start.z_BZthw.shape[2])
            ),
            step_noise=keyed_step_noise(
                [start.key], start.z_BZthw.shape[1:], device=self.compute.device
            ),
            on_step=_of_all_loops(on_step, loop, request.loops),
        )
        parts = self.vae.decode_stream([z], size.num_frames)
        return np.concatenate([to_frames(part_BCTHW[0]) for part_BCTHW in parts])

    def _latent_shape(self, size: ClipSize) -> tuple[int, ...]:
        latents = self.vae.latent_size((size.num_frames, size.height, size.width))
        return self.spec.vae.latent_channels, *latents

    def _conditions(
        self, request: ClipRequest, size: ClipSize, loop: int, mask_Bt: Tensor | None
    ) -> Conditions:
        text, text_mask = encode_conditions([self._text(request, loop)], self.text_encoder)
        fps = request.fps or (self.spec.fps if size.num_frames > 1 else IMAGE_FPS)
        height_B, width_B, fps_B = (
            torch.full((1,), float(value), device=self.compute.device)
            for value in (size.height, size.width, fps)
        )
        return Conditions(
            text_BSD=text,
            text_mask_BS=text_mask,
            height_B=height_B,
            width_B=width_B,
            fps_B=fps_B,
            frame_mask_Bt=mask_Bt,
        )

    def count_cut_prompts(self, request: ClipRequest) -> int:
        """Return how many of a request's prompts are longer than the text encoder takes."""
        texts = {self._text(request, loop) for loop in range(request.loops)}
        return count_too_long(sorted(texts), self.text_encoder)

    def _text(self, request: ClipRequest, loop: int) -> str:
        """Return what the text encoder sees: the request's scores win over the prompt's own."""
        prompt = request.prompt_of(loop)
        own = split_conditioning(clean_caption(prompt) if self.spec.clean_captions else prompt)
        asked = {"aesthetic": request.aesthetic, "motion": request.motion}
        scores = self.spec.scores | own.scores
        scores |= {name: value for name, value in asked.items() if value is not None}
        new = [name for name in conditioning_scores() if name not in self.spec.scores]
        return condition_text(
            own.caption,
            {name: scores[name] for name in (*new, *self.spec.scores) if name in scores},
            camera_motion=request.camera_motion or own.camera_motion,
        )

    def _sampler(self, request: ClipRequest) -> SamplerConfig:
        default = self.spec.sampler
        return SamplerConfig(
            num_steps=request.num_steps or default.num_steps,
            guidance=default.guidance if request.guidance is None else request.guidance,
            discrete_times=default.discrete_times,
        )


def _noise_key(seed: int, loop: int) -> int:
    return random_key("sample-noise", seed, loop) if loop else random_key("sample-noise", seed)


def _of_all_loops(on_step: OnStep | None, loop: int, loops: int) -> OnStep | None:
    if on_step is None:
        return None
    return lambda done, steps: on_step(loop * steps + done, loops * steps)
