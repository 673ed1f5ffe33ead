"""Reads cached latents."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load
from torch import Tensor

from kinetoscope.core.errors import CorruptError, NotFoundError, UserError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.core.units import MIB
from kinetoscope.data.latents.format import (
    FORMAT_VERSION,
    INDEX,
    LatentEntry,
    LatentIndex,
    LatentSample,
    tensors_key,
    text_numbers,
)
from kinetoscope.storage.open import as_local
from kinetoscope.storage.records import read_record
from kinetoscope.storage.store import ObjectStore


class LatentReader:
    """Reads cached latents, with whole shards in a cache. Not for several threads at once.

    Args:
        store: rooted at the latents' folder.
        cache_bytes: most bytes of shards to keep; the shard in use is always kept.
    """

    def __init__(self, store: ObjectStore, *, cache_bytes: int = 512 * MIB) -> None:
        self._store = store
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[int, dict[str, Tensor]] = OrderedDict()
        self._used_bytes = 0
        self.index = read_index(store)
        self._places = {_place(entry): i for i, entry in enumerate(self.index.entries)}
        self._text_numbers: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.index.entries)

    @property
    def shift(self) -> Tensor:
        """Per channel, ``Z``; normalised latents are ``(z - shift) / scale``."""
        return torch.tensor(self.index.shift)

    @property
    def scale(self) -> Tensor:
        """Per channel, ``Z``."""
        return torch.tensor(self.index.scale)

    def find(self, clip_id: str, start_frame: int, num_frames: int, size: tuple[int, int]) -> int:
        """Return the number of the entry with this window and size (height, width).

        Raises:
            NotFoundError: it was never encoded.
        """
        try:
            return self._places[clip_id, start_frame, num_frames, *size]
        except KeyError:
            raise NotFoundError(
                f"no latents of clip {clip_id}, frames {start_frame} to "
                f"{start_frame + num_frames - 1} at {size[0]}x{size[1]}, in {self._store.uri}",
                hint="the plan differs from the one that was encoded: run encode_latents again",
            ) from None

    def read(self, number: int) -> LatentSample:
        """Return one entry's tensors; do not write into them.

        Raises:
            CorruptError: a shard does not match its digest.
        """
        shard, item = divmod(number, self.index.items_per_shard)
        tensors = self._shard(shard)
        text_number = self._text_numbers[shard][item]
        mask = tensors[f"text_mask.{text_number}"]
        used = tensors[f"text.{text_number}"]
        text = used.new_zeros(len(mask), used.shape[1])
        text[: len(used)] = used
        return LatentSample(tensors[f"mean.{item}"], tensors[f"logvar.{item}"], text, mask)

    def _shard(self, shard: int) -> dict[str, Tensor]:
        tensors = self._cached.get(shard)
        if tensors is not None:
            self._cached.move_to_end(shard)
            return tensors
        tensors = load(self._verified(shard))
        first = shard * self.index.items_per_shard
        entries = self.index.entries[first : first + self.index.items_per_shard]
        self._text_numbers[shard] = text_numbers(entries)
        self._cached[shard] = tensors
        self._used_bytes += _num_bytes(tensors)
        while self._used_bytes > self._cache_bytes and len(self._cached) > 1:
            _, oldest = self._cached.popitem(last=False)
            self._used_bytes -= _num_bytes(oldest)
        return tensors

    def _verified(self, shard: int) -> bytes:
        record = self.index.shards[shard]
        key = tensors_key(record)
        with TemporaryDirectory(prefix="latents-") as temporary:
            try:
                data = as_local(self._store, key, Path(temporary)).read_bytes()
            except (NotFoundError, FileNotFoundError):
                raise CorruptError(f"{self._store.uri}/{key} is missing") from None
        if digest_bytes(data) != record.digest:
            raise CorruptError(f"{self._store.uri}/{key} does not match its digest")
        return data


def read_index(store: ObjectStore) -> LatentIndex:
    """Return the index of cached latents.

    Args:
        store: rooted at the latents' folder.

    Raises:
        NotFoundError: there is none.
        UserError: it has another format than this version reads.
    """
    index = read_record(store, INDEX, LatentIndex)
    if index is None:
        raise NotFoundError(f"no latents in {store.uri}", hint="run encode_latents again")
    if index.format_version != FORMAT_VERSION:
        newer = index.format_version > FORMAT_VERSION
        raise UserError(
            f"the latents in {store.uri} have format {index.format_version}; "
            f"this version reads {FORMAT_VERSION}",
            hint="update Kinetoscope" if newer else "run encode_latents again",
        )
    return index


def _place(entry: LatentEntry) -> tuple[str, int, int, int, int]:
    return entry.clip_id, entry.start_frame, entry.num_frames, entry.height, entry.width


def _num_bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
