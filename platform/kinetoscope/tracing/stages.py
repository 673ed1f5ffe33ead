"""What each bucket of a run's training stages takes of a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context

import torch
from torch.distributed import ProcessGroup

from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import ConfigError
from kinetoscope.core.machine_limits import usable_cores
from kinetoscope.data.plan.aspect_tables import named_resolution
from kinetoscope.data.plan.config import BucketConfig, ClipPlanConfig, FrameSize
from kinetoscope.models.device import Compute
from kinetoscope.models.text.config import TextEncoderConfig
from kinetoscope.tracing.autoencoder import EncodingTracer, VAETracer
from kinetoscope.tracing.flow import FlowTracer
from kinetoscope.tracing.step import StepTrace, fake_ranks, fake_tensors
from kinetoscope.tracing.tracker import KINDS, Kind, Peak
from kinetoscope.training.dit.config import DiTStage
from kinetoscope.training.vae.config import TrainVAEConfig, VAEStage

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


@dataclass(frozen=True, slots=True)
class BucketCost:
    """What training on one bucket takes of each GPU.

    Attributes:
        stages: paths of the stages that have the bucket at this batch size, e.g. ``train_dit.0``.
        resolution: as the plan names it.
        size: frames, height and width in pixels; of a resolution's sizes that with most tokens.
        batch_size: samples of a micro-batch.
        ranks: GPUs that share a micro-batch's tokens, of which this is one.
        num_tokens: positions that the model attends to, of the whole batch; 0 for the VAE.
        peak: the largest of the phases.
        phase: that it is in: ``encode``, ``forward``, ``backward`` or ``update``.
        flops: of forward and backward pass, with what is computed again; encoding left out.
    """

    stages: tuple[str, ...]
    resolution: str
    size: tuple[int, int, int]
    batch_size: int
    ranks: int
    num_tokens: int
    peak: Peak
    phase: str
    flops: float


def bucket_costs(config: RunConfig, only: str = "") -> list[BucketCost]:
    """Trace every distinct bucket of the stages of the VAE, then of the transformer.

    Several stages are traced side by side, in processes of their own.

    Args:
        config: of the run; weights and files that it names need not be there.
        only: a stage or a list of them, e.g. ``train_dit.2`` or ``train_dit``; all by default.

    Raises:
        ConfigError: there is no such stage.
    """
    jobs = [
        _Job(partial(_vae_costs, config, stage, path))
        for index, stage in enumerate(config.train_vae)
        if _chosen(path := f"train_vae.{index}", only)
    ]
    jobs += _dit_jobs(config, only)
    if not jobs:
        stages = [f"train_vae.{index}" for index in range(len(config.train_vae))]
        stages += [f"train_dit.{index}" for index in range(len(config.train_dit))]
        raise ConfigError(
            f"the config has no stage {only!r}", hint=f"it has: {', '.join(stages) or 'none'}"
        )
    if len(jobs) < 2:  # noqa: PLR2004 - a process has its price
        found = [job() for job in jobs]
    else:
        with ProcessPoolExecutor(int(usable_cores()), get_context("spawn")) as pool:
            # The later a stage, the more buckets it has: the longest begin first.
            found = [f.result() for f in [pool.submit(job) for job in reversed(jobs)]][::-1]
    return [cost for costs in found for cost in costs]


def _chosen(path: str, only: str) -> bool:
    return not only or f"{path}.".startswith(f"{only}.")


@dataclass(frozen=True, slots=True)
class _Job:
    """A stage's costs, to be traced in any process."""

    trace: Callable[[], Iterable[BucketCost]]

    def __call__(self) -> list[BucketCost]:
        with fake_tensors():
            return list(self.trace())


def _vae_costs(config: RunConfig, stage: VAEStage, path: str) -> Iterator[BucketCost]:
    fields = {name: getattr(stage, name) for name in VAEStage.model_fields}
    tracer = VAETracer(TrainVAEConfig(**fields, model=config.models.vae))
    for num_frames, batch_size in _vae_batches(stage.plan):
        trace = tracer.trace(num_frames, batch_size)
        size = (num_frames, stage.plan.height, stage.plan.width)
        yield _cost(trace, f"{size[1]}x{size[2]}", size, batch_size, stages=(path,))


def _dit_jobs(config: RunConfig, only: str) -> Iterator[_Job]:
    """Yield a job for each stage that has buckets which none before it has."""
    found: dict[tuple[object, ...], tuple[str, BucketConfig, list[str]]] = {}
    stages = {f"train_dit.{index}": stage for index, stage in enumerate(config.train_dit)}
    for path, stage in stages.items():
        if not _chosen(path, only):
            continue
        # What else of a stage changes what its steps take.
        loop = stage.loop
        policy = (stage.use_cache, stage.sequence_parallel, loop.dtype, loop.ema_decay)
        for bucket in stage.plan.buckets:
            key = (bucket.resolution_name, bucket.num_frames, bucket.batch_size, *policy)
            found.setdefault(key, (path, bucket, []))[2].append(path)
    for path, stage in stages.items():
        buckets = [
            (bucket, tuple(paths)) for first, bucket, paths in found.values() if first == path
        ]
        if buckets:
            yield _Job(partial(_dit_costs, config, stage, buckets))


def _dit_costs(
    config: RunConfig, stage: DiTStage, buckets: Sequence[tuple[BucketConfig, tuple[str, ...]]]
) -> Iterator[BucketCost]:
    with fake_ranks(stage.sequence_parallel) as group:
        tracer = _DiTStageTracer(config, stage, group)
        for bucket, paths in buckets:
            yield replace(tracer.cost(bucket), stages=paths)


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

    def __init__(self, config: RunConfig, stage: DiTStage, group: ProcessGroup | None) -> None:
        models = config.models
        self._config, self._stage = config, stage
        self._flow = FlowTracer(models.dit, models.flow, stage.loop, group=group)
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
        return replace(found, ranks=self._stage.sequence_parallel, num_tokens=num_tokens)

    def _beside_encoders(
        self, trace: StepTrace, vae: EncodingTracer, size: tuple[int, int, int], batch_size: int
    ) -> StepTrace:
        """Add the frozen encoders' weights to all phases, and the phase of encoding clips."""
        compute = Compute(torch.device("cpu"), self._stage.loop.dtype)
        text_encoder = self._config.models.text_encoder
        weights = vae.weight_bytes + text_encoder_bytes(text_encoder, compute.dtype)
        lasting = trace.peaks["forward"].bytes_by_kind
        kept: tuple[Kind, ...] = ("weights", "gradients", "optimizer", "average", "inputs")
        encoding: dict[Kind, int] = {kind: lasting[kind] if kind in kept else 0 for kind in KINDS}
        encoding["activations"] = vae.peak_bytes(size, batch_size, compute)
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


def text_encoder_bytes(config: TextEncoderConfig, dtype: torch.dtype) -> int:
    """Return the bytes of a text encoder's weights on a GPU; 0 for one that has none.

    Args:
        config: of the encoder.
        dtype: of its weights.

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
    weights = layers * layer + _T5_VOCABULARY * width + 32 * heads + width
    return dtype.itemsize * weights


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
    return BucketCost(stages, resolution, size, batch_size, 1, 0, peak, phase, flops)
