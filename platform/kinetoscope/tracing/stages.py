"""What each bucket of a run's training stages takes of a GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from kinetoscope.config.run import RunConfig
from kinetoscope.data.plan.aspect_tables import named_resolution
from kinetoscope.data.plan.config import BucketConfig, ClipPlanConfig, FrameSize
from kinetoscope.models.text.config import TextEncoderConfig
from kinetoscope.tracing.autoencoder import EncodingTracer, VAETracer
from kinetoscope.tracing.flow import FlowTracer
from kinetoscope.tracing.step import StepTrace, fake_tensors
from kinetoscope.tracing.tracker import KINDS, Kind, Peak
from kinetoscope.training.dit.config import DiTStage
from kinetoscope.training.vae.config import TrainVAEConfig, VAEStage

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

# Layers, width of the MLP, heads of T5 version 1.1 by its own width (google/t5-v1_1-*): the weights
# of its encoder need not be there to be counted.
_T5 = {
    512: (8, 1024, 6),
    768: (12, 2048, 12),
    1024: (24, 2816, 16),
    2048: (24, 5120, 32),
    4096: (24, 10240, 64),
}
_T5_VOCABULARY, _T5_HEAD_WIDTH = 32128, 64
# It is bfloat16 on GPUs.
_T5_BYTES_PER_WEIGHT = 2


@dataclass(frozen=True, slots=True)
class BucketCost:
    """What training on one bucket takes of each GPU.

    Attributes:
        stages: paths of the stages that have the bucket at this batch size, e.g. ``train_dit.0``.
        resolution: as the plan names it.
        size: frames, height and width in pixels; of a resolution's sizes that with most tokens.
        batch_size: samples of a micro-batch.
        num_tokens: positions that the model attends to, of the whole batch; 0 for the VAE.
        peak: the largest of the phases.
        phase: that it is in: ``encode``, ``forward``, ``backward`` or ``update``.
        flops: of forward and backward pass, with what is computed again; encoding left out.
    """

    stages: tuple[str, ...]
    resolution: str
    size: tuple[int, int, int]
    batch_size: int
    num_tokens: int
    peak: Peak
    phase: str
    flops: float


def bucket_costs(config: RunConfig, only: str = "") -> list[BucketCost]:
    """Trace every distinct bucket of the stages of the VAE, then of the transformer.

    Args:
        config: of the run; weights and files that it names need not be there.
        only: what paths of the stages begin with, e.g. ``train_dit`` or ``train_dit.2``.
    """
    costs: list[BucketCost] = []
    with fake_tensors():
        for index, stage in enumerate(config.train_vae):
            if (path := f"train_vae.{index}").startswith(only):
                costs += _vae_costs(config, stage, path)
        costs += _dit_costs(config, only)
    return costs


def _vae_costs(config: RunConfig, stage: VAEStage, path: str) -> Iterator[BucketCost]:
    fields = {name: getattr(stage, name) for name in VAEStage.model_fields}
    tracer = VAETracer(TrainVAEConfig(**fields, model=config.models.vae))
    for num_frames, batch_size in _vae_batches(stage.plan):
        trace = tracer.trace(num_frames, batch_size)
        size = (num_frames, stage.plan.height, stage.plan.width)
        yield _cost(trace, f"{size[1]}x{size[2]}", size, batch_size, stages=(path,))


def _dit_costs(config: RunConfig, only: str) -> Iterator[BucketCost]:
    found: dict[tuple[object, ...], BucketCost] = {}
    for index, stage in enumerate(config.train_dit):
        if not (path := f"train_dit.{index}").startswith(only):
            continue
        # What else of a stage changes what its steps take.
        policy = (stage.use_cache, stage.loop.dtype, stage.loop.ema_decay, stage.loop.grad_clip)
        tracer: _DiTStageTracer | None = None
        for bucket in stage.plan.buckets:
            key = (bucket.resolution_name, bucket.num_frames, bucket.batch_size, *policy)
            if key in found:
                found[key] = replace(found[key], stages=(*found[key].stages, path))
                continue
            tracer = tracer or _DiTStageTracer(config, stage)
            found[key] = replace(tracer.cost(bucket), stages=(path,))
    yield from found.values()


def _vae_batches(plan: ClipPlanConfig) -> Iterator[tuple[int, int]]:
    """Yield frames and samples of the largest batches that a plan makes."""
    if plan.lengths == "image_mix":
        yield 1, plan.image_batch_size
    if plan.frames_per_batch is not None:
        yield 1, plan.frames_per_batch
        yield plan.num_frames, max(1, plan.frames_per_batch // plan.num_frames)
    else:
        yield plan.num_frames, plan.batch_size


class _DiTStageTracer:
    """Traces the buckets of one stage of the transformer."""

    def __init__(self, config: RunConfig, stage: DiTStage) -> None:
        models = config.models
        self._config, self._stage = config, stage
        self._flow = FlowTracer(models.dit, models.flow, stage.loop)
        self._encoding = None if stage.use_cache else EncodingTracer(models.vae)

    def cost(self, bucket: BucketConfig) -> BucketCost:
        """Trace a bucket."""
        models = self._config.models
        size = largest_size(bucket, models.dit.pixel_multiple(models.vae))
        latents, batch_size = models.vae.latent_size(size), bucket.batch_size
        num_tokens = batch_size * math.prod(models.dit.tokens(latents))
        levels = None
        if self._encoding is not None:
            levels = torch.empty(batch_size, *size, 3, dtype=torch.uint8)
        trace = self._flow.trace(latents, batch_size, pixels=levels)
        if self._encoding is not None:
            trace = self._beside_encoders(trace, self._encoding, size, batch_size)
        found = _cost(trace, bucket.resolution_name, size, batch_size)
        return replace(found, num_tokens=num_tokens)

    def _beside_encoders(
        self, trace: StepTrace, vae: EncodingTracer, size: tuple[int, int, int], batch_size: int
    ) -> StepTrace:
        """Add the frozen encoders' weights to all phases, and the phase of encoding clips."""
        loop = self._stage.loop
        weights = vae.weight_bytes + text_encoder_bytes(self._config.models.text_encoder)
        lasting = trace.peaks["forward"].bytes_by_kind
        kept: tuple[Kind, ...] = ("weights", "gradients", "optimizer", "average", "inputs")
        encoding: dict[Kind, int] = {kind: lasting[kind] if kind in kept else 0 for kind in KINDS}
        encoding["activations"] = vae.peak_bytes(size, batch_size, dtype=_DTYPES[loop.dtype])
        peaks = {"encode": Peak(encoding, ""), **trace.peaks}
        return replace(
            trace, peaks={name: _with_weights(peak, weights) for name, peak in peaks.items()}
        )


def largest_size(bucket: BucketConfig, pixel_multiple: tuple[int, int]) -> tuple[int, int, int]:
    """Return frames, height and width of the bucket's size with most tokens, that is pixels.

    Args:
        bucket: of the plan.
        pixel_multiple: of a patch of the model; heights and widths are cut to multiples.
    """
    if isinstance(bucket.resolution, FrameSize):
        sizes = [(bucket.resolution.height, bucket.resolution.width)]
    else:
        sizes = list(named_resolution(bucket.resolution).sizes.values())
    rows, columns = pixel_multiple
    cut = [(height // rows * rows, width // columns * columns) for height, width in sizes]
    return (bucket.num_frames, *max(cut, key=math.prod))


def text_encoder_bytes(config: TextEncoderConfig) -> int:
    """Return the bytes of a text encoder's weights on a GPU; 0 for one that has none.

    Raises:
        ValueError: there is no T5 of this width.
    """
    if config.kind != "t5":
        return 0
    if config.width not in _T5:
        raise ValueError(f"T5 has widths {sorted(_T5)}, not {config.width}")
    layers, hidden, heads = _T5[config.width]
    width, inner = config.width, heads * _T5_HEAD_WIDTH
    layer = 4 * width * inner + 3 * width * hidden + 2 * width
    return _T5_BYTES_PER_WEIGHT * (layers * layer + _T5_VOCABULARY * width + 32 * heads + width)


def _with_weights(peak: Peak, num_bytes: int) -> Peak:
    by_kind: dict[Kind, int] = {**peak.bytes_by_kind}
    by_kind["weights"] += num_bytes
    return Peak(by_kind, peak.operator)


def _cost(
    trace: StepTrace,
    resolution: str,
    size: tuple[int, int, int],
    batch_size: int,
    *,
    stages: tuple[str, ...] = (),
) -> BucketCost:
    phase, peak = max(trace.peaks.items(), key=lambda item: item[1].total_bytes)
    flops = trace.forward_flops + trace.backward_flops
    return BucketCost(stages, resolution, size, batch_size, 0, peak, phase, flops)
