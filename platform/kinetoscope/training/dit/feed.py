"""Batches for the diffusion transformer, from the latent cache or from clips.

Text is packed here, on the host: on a GPU the model would have to wait for its mask.

Shapes: ``B`` batch, ``Z`` latent channels, ``t h w`` latents, ``S`` text tokens, ``P`` rows of
packed text, ``D`` width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from kinetoscope.core.keys import random_key, uniform
from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.conditioning import encode_conditions
from kinetoscope.data.latents.format import LatentSample
from kinetoscope.data.plan.batch_plan import MicroBatch, PlanItem
from kinetoscope.diffusion.frame_masks import draw_frame_masks
from kinetoscope.diffusion.rectified_flow import draw_times, keyed_noise
from kinetoscope.models.base import Transformer
from kinetoscope.models.layers.packed_text import pack
from kinetoscope.models.text.encoders import TextEncoder
from kinetoscope.training.clip_feed import ClipFeed, LatentShape, sample_keys
from kinetoscope.training.dit.config import TrainDiTConfig
from kinetoscope.training.dit.shape_conditions import shape_conditions
from kinetoscope.training.loop.task import Batch


class FlowDraws:
    """The random part of a batch, each draw keyed by its sample.

    These are noise, times, dropped captions and frame masks.

    Args:
        config: of the stage.
        key: name of the training step, and seed of the run.
    """

    def __init__(self, config: TrainDiTConfig, key: tuple[str, int]) -> None:
        self._config = config
        self._key = key

    def tensors(
        self, epoch: int, items: Sequence[PlanItem], latent_shape: Sequence[int]
    ) -> dict[str, Tensor]:
        """Return ``draw`` and ``noise`` B Z t h w, ``tau`` B and ``drop_text`` B.

        ``frame_mask`` B t is there where a sample is conditioned on frames.
        """
        shape = tuple(latent_shape)
        tensors = {
            "draw": keyed_noise(sample_keys("posterior", self._key, epoch, items), shape),
            "noise": keyed_noise(sample_keys("noise", self._key, epoch, items), shape),
            "tau": draw_times(sample_keys("time", self._key, epoch, items), self._config.flow),
            "drop_text": self._dropped(epoch, items),
        }
        mask_keys = sample_keys("frame_mask", self._key, epoch, items)
        mask_Bt = draw_frame_masks(mask_keys, shape[1], self._config.frame_masks)
        # Without a mask the model modulates once, not twice.
        return tensors if mask_Bt.all() else {**tensors, "frame_mask": mask_Bt}

    def _dropped(self, epoch: int, items: Sequence[PlanItem]) -> Tensor:
        key = random_key("drop_text", *self._key, epoch)
        draws = uniform(key, [item.index for item in items])
        return torch.from_numpy(draws < self._config.model.text_dropout)


class Latents(Protocol):
    """Where the posteriors and texts of planned samples come from, such as the latent cache."""

    def find(self, clip_id: str, start_frame: int, num_frames: int, size: tuple[int, int]) -> int:
        """Return the number of the sample with this window and size (height, width)."""
        ...

    def read(self, number: int) -> LatentSample:
        """Return a sample's tensors."""
        ...


class CachedFeed:
    """Batches from cached latents: an epoch reads the windows of its draw, with noise of its own.

    Args:
        reader: the cache.
        table: what the plan's items refer to.
        draws: the random part.
        model: says how it takes text, and into what tokens it cuts latents.
    """

    def __init__(
        self,
        reader: Latents,
        table: ClipTable,
        draws: FlowDraws,
        *,
        model: Transformer,
    ) -> None:
        self._reader = reader
        self._table = table
        self._draws = draws
        self._patch_size = model.config.patch_size
        self._packed_text = model.takes_packed_text

    def load(self, epoch: int, micro_batch: MicroBatch) -> Batch:
        """Load one micro-batch."""
        bucket, items = micro_batch.bucket, micro_batch.items
        size = (bucket.height, bucket.width)
        samples = [
            self._reader.read(
                self._reader.find(
                    self._table.clip_id[item.clip], item.start_frame, bucket.num_frames, size
                )
            )
            for item in items
        ]
        shape = tuple(samples[0].mean.shape)
        tensors = {
            "mean": torch.stack([sample.mean for sample in samples]),
            "logvar": torch.stack([sample.logvar for sample in samples]),
            **text_tensors(
                torch.stack([sample.text for sample in samples]),
                torch.stack([sample.text_mask for sample in samples]),
                packed=self._packed_text,
            ),
            **self._draws.tensors(epoch, items, shape),
            **shape_conditions(self._table, bucket, items),
        }
        return _batch(tensors, shape, self._patch_size)


class PixelFeed:
    """Batches from clips, whose latents the objective's own VAE encodes.

    Args:
        clips: where pixels come from.
        table: what the plan's items refer to.
        text_encoder: encodes the clips' condition texts.
        draws: the random part.
        latent_shape: shape of a sample's latents.
        model: says how it takes text, and into what tokens it cuts latents.
    """

    def __init__(
        self,
        clips: ClipFeed,
        table: ClipTable,
        text_encoder: TextEncoder,
        draws: FlowDraws,
        *,
        latent_shape: LatentShape,
        model: Transformer,
    ) -> None:
        self._clips = clips
        self._table = table
        self._text_encoder = text_encoder
        self._draws = draws
        self._latent_shape = latent_shape
        self._patch_size = model.config.patch_size
        self._packed_text = model.takes_packed_text

    def load(self, epoch: int, micro_batch: MicroBatch) -> Batch:
        """Load one micro-batch."""
        bucket, items = micro_batch.bucket, micro_batch.items
        shape = self._latent_shape((bucket.num_frames, bucket.height, bucket.width))
        texts = [self._table.text[item.clip] for item in items]
        text, mask = encode_conditions(texts, self._text_encoder)
        tensors = {
            "pixels": self._clips.levels(bucket, items),
            **text_tensors(text, mask, packed=self._packed_text),
            **self._draws.tensors(epoch, items, shape),
            **shape_conditions(self._table, bucket, items),
        }
        return _batch(tensors, shape, self._patch_size)


def text_tensors(text_BSD: Tensor, text_mask_BS: Tensor, *, packed: bool) -> dict[str, Tensor]:
    """Return text as `FlowObjective` takes it, packed or as it is."""
    if not packed:
        return {"text": text_BSD, "text_mask": text_mask_BS}
    rows, places = pack(text_BSD, text_mask_BS)
    return {"text": rows, "text_places": places}


def _batch(
    tensors: dict[str, Tensor], shape: Sequence[int], patch_size: tuple[int, int, int]
) -> Batch:
    count = len(tensors["tau"])
    tokens = math.prod(-(-n // p) for n, p in zip(shape[1:], patch_size, strict=True))
    return Batch(tensors, num_samples=count, num_tokens=count * tokens)
