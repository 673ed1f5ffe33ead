"""Writes cached latents, shard by shard."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from safetensors.torch import save
from torch import Tensor

from kinetoscope.core.errors import CorruptError, DataError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.data.latents.format import (
    INDEX,
    LatentEntry,
    LatentIndex,
    LatentSample,
    ShardRecord,
    digest_entries,
    record_key,
    tensors_key,
    text_numbers,
)
from kinetoscope.storage.records import read_record
from kinetoscope.storage.store import ObjectStore

# Variances below this would blow up a channel that holds nothing.
_MIN_STD = 1e-6


class LatentWriter:
    """Writes the shards of a fixed list of entries, in any order and from any rank.

    Args:
        store: rooted at the latents' folder.
        entries: all that will be encoded; sorted by clip, equal texts share space.
        items_per_shard: entries of a shard.
    """

    def __init__(
        self, store: ObjectStore, entries: Sequence[LatentEntry], *, items_per_shard: int = 64
    ) -> None:
        if not entries:
            raise DataError("there is nothing to encode: the plan has no samples")
        self._store = store
        self._entries = tuple(entries)
        self._items_per_shard = items_per_shard
        self.num_shards = -(-len(self._entries) // items_per_shard)

    def shard_entries(self, shard: int) -> tuple[LatentEntry, ...]:
        """Return the entries of a shard, in the order that ``write_shard`` wants."""
        first = shard * self._items_per_shard
        return self._entries[first : first + self._items_per_shard]

    def missing_shards(self) -> list[int]:
        """Return the numbers of the shards that are still to be written."""
        return [shard for shard in range(self.num_shards) if self._record(shard) is None]

    def write_shard(self, shard: int, samples: Sequence[LatentSample]) -> None:
        """Write the samples of ``shard_entries(shard)``, in that order."""
        entries = self.shard_entries(shard)
        if len(samples) != len(entries):
            raise ValueError(f"shard {shard} has {len(entries)} entries, not {len(samples)}")
        tensors: dict[str, Tensor] = {}
        text_of = text_numbers(entries)
        for number, sample in enumerate(samples):
            tensors[f"mean.{number}"] = _plain(sample.mean)
            tensors[f"logvar.{number}"] = _plain(sample.logvar)
            # Padding is not stored: text is cut after its last real token.
            used = int(sample.text_mask.long().nonzero().max()) + 1 if sample.text_mask.any() else 0
            tensors[f"text.{text_of[number]}"] = _plain(sample.text[:used])
            tensors[f"text_mask.{text_of[number]}"] = sample.text_mask.cpu().bool().clone()
        data = save(tensors)
        positions, sum_mean, sum_square = _statistics(samples)
        record = ShardRecord(
            entries_digest=digest_entries(entries),
            digest=digest_bytes(data),
            size_bytes=len(data),
            positions=positions,
            sum_mean=sum_mean,
            sum_square=sum_square,
        )
        self._store.put_bytes(tensors_key(record), data)
        self._store.put_bytes(record_key(shard), record.to_bytes())

    def commit(
        self,
        *,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> LatentIndex:
        """Write the index; all shards must be there.

        Args:
            normalization: (shift, scale) per channel; by default the mean and standard deviation of
                sampled latents over all entries.
        """
        records = [self._record(shard) for shard in range(self.num_shards)]
        done = [record for record in records if record is not None]
        if len(done) != self.num_shards:
            raise CorruptError(f"shards {self.missing_shards()} of the latents are missing")
        shift, scale = normalization or _measured(done)
        index = LatentIndex(
            entries=self._entries,
            items_per_shard=self._items_per_shard,
            shards=tuple(done),
            shift=tuple(shift),
            scale=tuple(scale),
        )
        self._store.put_bytes(INDEX, index.to_bytes())
        return index

    def _record(self, shard: int) -> ShardRecord | None:
        try:
            record = read_record(self._store, record_key(shard), ShardRecord)
        except CorruptError:  # the shard is written again
            record = None
        if record is None:
            return None
        same = record.entries_digest == digest_entries(self.shard_entries(shard))
        stat = self._store.stat(tensors_key(record))
        return record if same and stat and stat.size_bytes == record.size_bytes else None


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous().clone()


def _statistics(
    samples: Sequence[LatentSample],
) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    positions, sums, squares = 0, torch.zeros(()).double(), torch.zeros(()).double()
    for sample in samples:
        mean = sample.mean.detach().cpu().double().flatten(1)
        variance = sample.logvar.detach().cpu().double().exp().flatten(1)
        positions += mean.shape[1]
        sums = sums + mean.sum(1)
        squares = squares + (mean.square() + variance).sum(1)
    return positions, tuple(sums.tolist()), tuple(squares.tolist())


def _measured(records: Sequence[ShardRecord]) -> tuple[list[float], list[float]]:
    positions = sum(record.positions for record in records)
    mean = torch.tensor([record.sum_mean for record in records]).double().sum(0) / positions
    square = torch.tensor([record.sum_square for record in records]).double().sum(0) / positions
    std = (square - mean.square()).clamp(min=0).sqrt().clamp(min=_MIN_STD)
    return mean.tolist(), std.tolist()
