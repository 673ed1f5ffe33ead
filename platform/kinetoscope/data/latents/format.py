"""The records of cached latents: what a sample, a shard and the index hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from kinetoscope.core.config_model import Record
from kinetoscope.core.hashing import digest_json

FORMAT_VERSION = 3
"""1 held latents before the autoencoder's own shift and scale; 2 numbered the files of tensors."""
INDEX = "index.json"


class LatentEntry(Record):
    """One encoded sample: a window of a clip at a size (pixels)."""

    clip_id: str
    start_frame: int
    num_frames: int
    height: int
    width: int
    fps: float


class ShardRecord(Record):
    """What a finished shard holds.

    The statistics are sums over all latent positions of the shard, per channel, in float64.
    """

    entries_digest: str
    digest: str
    size_bytes: int
    positions: int
    sum_mean: tuple[float, ...]
    sum_square: tuple[float, ...]
    """Of E[z^2] = mean^2 + variance."""


class LatentIndex(Record):
    """``index.json``."""

    format_version: int = FORMAT_VERSION
    entries: tuple[LatentEntry, ...]
    items_per_shard: int
    shards: tuple[ShardRecord, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    """Models train on ``(z - shift) / scale`` of the normalised latents, per channel."""


@dataclass(frozen=True, slots=True)
class LatentSample:
    """The tensors of one entry.

    Attributes:
        mean: of the posterior of normalised latents, ``Z t h w``, fp32; likewise ``logvar``.
        text: embedding of the condition text, ``S D``, fp32.
        text_mask: ``S``, bool; False is padding.
    """

    mean: Tensor
    logvar: Tensor
    text: Tensor
    text_mask: Tensor


def record_key(shard: int) -> str:
    """Return the key of a shard's record."""
    return f"shards/{shard:05d}.json"


def tensors_key(record: ShardRecord) -> str:
    """Return the key of a shard's tensors, which follows from their content.

    So a writer that comes late, and was superseded, replaces nothing that was committed.
    """
    return f"shards/{record.digest.removeprefix('sha256:')[:32]}.safetensors"


def digest_entries(entries: Sequence[LatentEntry]) -> str:
    """Return a digest that tells whether a shard holds just these entries."""
    return digest_json([entry.model_dump(mode="json") for entry in entries])


def text_numbers(entries: Sequence[LatentEntry]) -> list[int]:
    """Number the texts of a shard: entries of one clip share theirs."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(entry.clip_id, len(numbers)) for entry in entries]
