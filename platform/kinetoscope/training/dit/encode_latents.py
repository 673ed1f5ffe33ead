"""The step ``encode_latents``: the planned samples' posteriors and texts, ready to train on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from kinetoscope.artifacts.clips import open_clips
from kinetoscope.artifacts.weights import load_autoencoder
from kinetoscope.core.errors import PreemptedError
from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.conditioning import count_too_long, encode_conditions
from kinetoscope.data.latents.format import INDEX, LatentEntry, LatentIndex, LatentSample
from kinetoscope.data.latents.writer import LatentWriter
from kinetoscope.data.plan.batch_plan import PlanItem
from kinetoscope.data.plan.buckets import Bucket
from kinetoscope.data.video.pixels import pixels_of
from kinetoscope.models.device import begin_computing
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.text.encoders import build_text_encoder
from kinetoscope.steps.worker import Outputs, StepContext, run_worker
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore
from kinetoscope.training.clip_feed import ClipFeed
from kinetoscope.training.dit.config import EncodeLatentsConfig
from kinetoscope.training.dit.plan import dit_plan
from kinetoscope.training.dit.shape_conditions import shape_conditions

LATENTS_KEY = "outputs/latents"

# Clips of one size that the VAE encodes at once.
_BATCH_SIZE = 8

# Frames that go to the device at a time.
_PART_FRAMES = 17


def main(ctx: StepContext) -> Outputs | None:
    """Encode what is missing, shard by shard, then commit the index."""
    config = EncodeLatentsConfig.model_validate(ctx.config)
    table = open_clips(ctx.inputs["clips"], ctx.videos).split("train")
    entries = planned_entries(table, config, seed=ctx.seed)
    store = open_store(join_uri(ctx.uri, LATENTS_KEY))
    if not entries:
        return _outputs(_normalization_alone(store, config))
    writer = LatentWriter(store, entries, items_per_shard=config.items_per_shard)
    missing = writer.missing_shards()
    encoder = Encoder(ctx, config, table)
    num_cut = encoder.count_cut()
    if num_cut:
        ctx.log.warning(
            "%d of %d captions are longer than the text encoder takes (max_tokens %d): they are "
            "cut, their scores are not",
            *(num_cut, len(table), config.text_encoder.max_tokens),
        )
    done = len(entries) - sum(len(writer.shard_entries(shard)) for shard in missing)
    ctx.progress(done, len(entries), "samples")
    for shard in missing:
        if ctx.stop_requested:
            raise PreemptedError(f"told to stop; {done} of {len(entries)} samples are saved")
        samples = encoder.encode(writer.shard_entries(shard))
        ctx.superseded_check()
        writer.write_shard(shard, samples)
        done += len(samples)
        ctx.progress(done, len(entries), "samples")
    fixed = _unchanged(config) if config.normalization == "fixed" else None
    ctx.superseded_check()
    index = writer.commit(normalization=fixed)
    return _outputs(index, num_cut)


def planned_entries(
    table: ClipTable, config: EncodeLatentsConfig, *, seed: int
) -> list[LatentEntry]:
    """Return every window and size that the plans' draws hold, once, sorted by clip."""
    found: dict[tuple[str, int, int, int, int], LatentEntry] = {}
    for cached in config.plans:
        plan = dit_plan(table, cached, seed=seed)
        for draw in range(config.num_draws):
            for step in plan.epoch(draw):
                for batch in step.micro_batches:
                    for entry in _entries(table, batch.bucket, batch.items):
                        place = (entry.start_frame, entry.num_frames, entry.height, entry.width)
                        found[entry.clip_id, *place] = entry
    return [found[place] for place in sorted(found)]


def _entries(table: ClipTable, bucket: Bucket, items: Sequence[PlanItem]) -> list[LatentEntry]:
    fps = shape_conditions(table, bucket, items)["fps"].tolist()
    return [
        LatentEntry(
            clip_id=table.clip_id[item.clip],
            start_frame=item.start_frame,
            num_frames=bucket.num_frames,
            height=bucket.height,
            width=bucket.width,
            fps=fps[number],
        )
        for number, item in enumerate(items)
    ]


class Encoder:
    """Encodes entries with the trained VAE and the text encoder.

    Args:
        ctx: with the input ``vae``.
        config: of the step.
        table: the clips that entries name.
    """

    def __init__(self, ctx: StepContext, config: EncodeLatentsConfig, table: ClipTable) -> None:
        self._compute = begin_computing(config.dtype, ctx.local_rank)
        device, dtype = self._compute.device, self._compute.dtype
        self._vae = load_autoencoder(config.model, ctx.inputs["vae"]).to(device)
        self._text_encoder = build_text_encoder(config.text_encoder, device=device, dtype=dtype)
        self._table = table
        self._clips = ClipFeed(table, cache_mib=config.cache_mib)
        self._row = {clip_id: row for row, clip_id in enumerate(table.clip_id)}

    def count_cut(self) -> int:
        """Return how many captions of the table are longer than the text encoder takes."""
        return count_too_long(self._table.text, self._text_encoder)

    def encode(self, entries: Sequence[LatentEntry]) -> list[LatentSample]:
        """Return the samples of the entries, in their order."""
        by_size: dict[Bucket, list[int]] = defaultdict(list)
        for number, entry in enumerate(entries):
            by_size[Bucket("", entry.num_frames, entry.height, entry.width)].append(number)
        samples: dict[int, LatentSample] = {}
        for bucket, numbers in by_size.items():
            for first in range(0, len(numbers), _BATCH_SIZE):
                chosen = numbers[first : first + _BATCH_SIZE]
                encoded = self._encode_batch(bucket, [entries[number] for number in chosen])
                samples.update(zip(chosen, encoded, strict=True))
        return [samples[number] for number in range(len(entries))]

    @torch.no_grad()
    def _encode_batch(self, bucket: Bucket, entries: Sequence[LatentEntry]) -> list[LatentSample]:
        rows = [self._row[entry.clip_id] for entry in entries]
        items = [PlanItem(row, e.start_frame, 0) for row, e in zip(rows, entries, strict=True)]
        levels = self._clips.levels(bucket, items)
        # Only some frames of a long clip are on the device at a time.
        parts = (
            pixels_of(part.to(self._compute.device)) for part in levels.split(_PART_FRAMES, dim=1)
        )
        with self._compute.autocast():
            posterior = Posterior.cat(list(self._vae.encode_stream(parts)), dim=2)
        mean, logvar = posterior.mean.float().cpu(), posterior.logvar.float().cpu()
        texts = [self._table.text[row] for row in rows]
        text, mask = encode_conditions(texts, self._text_encoder)
        text, mask = text.float().cpu(), mask.cpu()
        return [LatentSample(mean[i], logvar[i], text[i], mask[i]) for i in range(len(entries))]


def _normalization_alone(store: ObjectStore, config: EncodeLatentsConfig) -> LatentIndex:
    """Write the index of a run whose stages all train from clips."""
    shift, scale = _unchanged(config)
    index = LatentIndex(
        entries=(),
        items_per_shard=config.items_per_shard,
        shards=(),
        shift=shift,
        scale=scale,
    )
    store.put_bytes(INDEX, index.to_bytes())
    return index


def _unchanged(config: EncodeLatentsConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the shift and scale that leave the autoencoder's normalised latents as they are."""
    channels = config.model.latent_channels
    return (0.0,) * channels, (1.0,) * channels


def _outputs(index: LatentIndex, num_cut: int = 0) -> Outputs:
    size_bytes = sum(shard.size_bytes for shard in index.shards)
    return Outputs(
        artifacts={"latents": LATENTS_KEY},
        metrics={
            "latents.samples": float(len(index.entries)),
            "latents.shards": float(len(index.shards)),
            "latents.bytes": float(size_bytes),
            "captions.cut": float(num_cut),
        },
        summary={"shift": list(index.shift), "scale": list(index.scale)},
    )


if __name__ == "__main__":
    run_worker(main)
