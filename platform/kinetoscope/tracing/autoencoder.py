"""Steps of the VAEs' training, and what encoding clips takes beside a transformer's training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor

from kinetoscope.models.base import build_autoencoder
from kinetoscope.models.config import VideoAutoencoderConfig
from kinetoscope.models.device import Compute
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.losses import VAELoss
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.vae.perceptual import random_lpips
from kinetoscope.models.vae.spatial import PIXEL_CHANNELS
from kinetoscope.tracing.step import StepTrace, StepTracer
from kinetoscope.tracing.tracker import Tracker
from kinetoscope.training.vae.config import TrainVAEConfig
from kinetoscope.training.vae.objective import VideoVAEObjective


class EncodingTracer:
    """Traces the frozen autoencoder of a stage without a latent cache. Use it in `fake_tensors`.

    Args:
        config: of the autoencoder.
    """

    def __init__(self, config: VideoAutoencoderConfig) -> None:
        self._vae = build_autoencoder(config).requires_grad_(False)
        if isinstance(self._vae, VideoVAE):
            spatial = self._vae.spatial_vae.module
            spatial.__dict__["encode"] = _once(spatial.encode)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights."""
        tensors = (*self._vae.parameters(), *self._vae.buffers())
        return sum(tensor.nbytes for tensor in tensors)

    def peak_bytes(self, size: tuple[int, int, int], batch_size: int, compute: Compute) -> int:
        """Return the bytes that encoding takes at most, beside levels of pixels and the weights.

        Args:
            size: frames, height and width; of frames beyond a piece only pixels count.
            batch_size: clips.
            compute: on the CPU, in which precision.
        """
        frames, _ = self._vae.config.pieces(size[0])[0]
        pixels = torch.empty(batch_size, PIXEL_CHANNELS, frames, *size[1:])
        tracker = Tracker()
        tracker.mark([*self._vae.parameters(), *self._vae.buffers()], "weights")
        tracker.mark([pixels], "inputs")
        with ExitStack() as stack:
            stack.enter_context(compute.autocast())
            stack.enter_context(torch.no_grad())
            stack.enter_context(tracker)
            tracker.begin("activations")
            self._vae.encode(pixels)
        peak = tracker.peak.bytes_by_kind
        others = pixels.nbytes // frames * (size[0] - frames)
        return peak["inputs"] + others + peak["activations"] + peak["casts"]


class VAETracer:
    """Traces steps of a stage of the video VAE, without an adversary. Use it in `fake_tensors`.

    Args:
        config: of the stage; files that it names need not be there.
    """

    def __init__(self, config: TrainVAEConfig) -> None:
        loss = config.loss
        bare = config.model_copy(update={"loss": loss.model_copy(update={"perceptual_weight": 0})})
        objective = VideoVAEObjective(VideoVAE(config.model), bare)
        if loss.perceptual_weight:
            network = random_lpips(loss.perceptual_backbone).requires_grad_(False)
            objective.losses = VAELoss(loss, network)
        self._config = config
        self._tracer = StepTracer(objective, config.loop)

    def trace(self, num_frames: int, batch_size: int) -> StepTrace:
        """Trace a step of one micro-batch of clips, whose height and width are the plan's."""
        model, plan = self._config.model, self._config.plan
        size = (num_frames, plan.height, plan.width)
        latents = (batch_size, model.latent_channels, *model.latent_size(size))
        levels = torch.empty(batch_size, *size, PIXEL_CHANNELS, dtype=torch.uint8)
        return self._tracer.trace({"pixels": levels, "noise": torch.empty(latents)})


def _once(encode: Callable[[Tensor], Posterior]) -> Callable[[Tensor], Posterior]:
    """Return a function that encodes the first batch of each shape and makes up the others.

    A clip's frames are encoded a few at a time, each few like the ones before.
    """
    known: dict[torch.Size, Posterior] = {}

    def encoded(frames: Tensor) -> Posterior:
        if frames.shape not in known:
            found = encode(frames)
            known[frames.shape] = Posterior(found.mean.to("meta"), found.logvar.to("meta"))
            return found
        like = known[frames.shape]
        return Posterior(
            torch.empty_like(like.mean, device="cpu"), torch.empty_like(like.logvar, device="cpu")
        )

    return encoded
