"""Read checkpoints, and refuse what is damaged or newer than this code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kinetoscope.checkpoints.layout import (
    FORMAT_VERSION,
    INDEX,
    MANIFEST,
    ROOT,
    CheckpointState,
    Index,
    Manifest,
    Place,
    StoredTensor,
    join,
    parse_place,
)
from kinetoscope.core.errors import CorruptError, NotFoundError, UserError
from kinetoscope.core.hashing import digest_file
from kinetoscope.storage.open import as_local
from kinetoscope.storage.records import read_with_digest, shown_name
from kinetoscope.storage.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint in memory: tensors by group and parameter name, on the CPU."""

    state: CheckpointState
    generation: int
    digest: str
    """Of its manifest."""
    tensors: dict[str, dict[str, Tensor]]


def read_checkpoint(
    store: ObjectStore,
    prefix: str = "",
    *,
    groups: Iterable[str] | None = None,
    identity: str = "",
    verify: bool = True,
) -> Checkpoint:
    """Read a checkpoint.

    Args:
        store: that holds it.
        prefix: its key prefix; empty when the store is rooted at the checkpoint itself.
        groups: to read, e.g. ``["ema"]``; all by default.
        identity: of the step that must have written it; empty: any.
        verify: compare the digests of what is read with the manifest; sizes are compared always.

    Raises:
        NotFoundError: there is no checkpoint, or no such group.
        CorruptError: a file is missing or differs from the manifest, or it is the checkpoint of
            another step of training, or of another place.
        UserError: a newer version of Kinetoscope wrote it.
    """
    manifest = read_manifest(store, prefix, identity=identity)
    with TemporaryDirectory(prefix="checkpoint-") as temporary:
        reader = _Reader(store, prefix, manifest, Path(temporary), verify)
        index = Index.from_bytes(
            reader.path(INDEX).read_bytes(), shown_name(store, join(prefix, INDEX))
        )
        if index.state.step != manifest.step:
            raise CorruptError(
                f"{shown_name(store, join(prefix, INDEX))} is of step {index.state.step}, its "
                f"manifest of step {manifest.step}"
            )
        wanted = list(index.tensors if groups is None else groups)
        unknown = [group for group in wanted if group not in index.tensors]
        if unknown:
            raise NotFoundError(
                f"the checkpoint {store.uri}/{prefix} has no {unknown}; "
                f"it has {list(index.tensors)}"
            )
        tensors = {group: reader.load(index.tensors[group]) for group in wanted}
    return Checkpoint(index.state, manifest.generation, manifest.digest, tensors)


def read_manifest(store: ObjectStore, prefix: str = "", *, identity: str = "") -> Manifest:
    """Read and check a checkpoint's manifest; arguments and errors as in ``read_checkpoint``."""
    found = read_with_digest(store, join(prefix, MANIFEST), Manifest)
    if found is None:
        raise NotFoundError(f"no checkpoint in {store.uri}/{prefix}")
    manifest = found[0].model_copy(update={"digest": found[1]})
    if manifest.format_version > FORMAT_VERSION:
        raise UserError(
            f"the checkpoint {store.uri}/{prefix} has format {manifest.format_version}; "
            f"this version reads up to {FORMAT_VERSION}",
            hint="update Kinetoscope",
        )
    _check_origin(manifest, shown_name(store, join(prefix, MANIFEST)), prefix, identity)
    return manifest


def _check_origin(manifest: Manifest, name: str, prefix: str, identity: str) -> None:
    """Refuse a checkpoint that was copied from another place."""
    place = parse_place(prefix or name.rpartition(f"{ROOT}/")[1] + name.rpartition(f"{ROOT}/")[2])
    found = Place(manifest.generation, manifest.save, manifest.step)
    if place is not None and place != found:
        raise CorruptError(
            f"{name} is of step {found.step}, save {found.save} of attempt {found.generation}"
        )
    if identity and manifest.identity not in ("", identity):
        raise CorruptError(f"{name} is of {manifest.identity}, not of {identity}")


class _Reader:
    """Gives local paths of verified files, and tensors from them."""

    def __init__(
        self, store: ObjectStore, prefix: str, manifest: Manifest, scratch: Path, verify: bool
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._manifest = manifest
        self._scratch = scratch
        self._verify = verify

    def path(self, name: str) -> Path:
        key = join(self._prefix, name)
        expected = self._manifest.files.get(name)
        stat = self._store.stat(key)
        if expected is None or stat is None:
            raise CorruptError(f"{self._store.uri}/{key} is missing")
        if stat.size_bytes != expected.size_bytes:
            raise CorruptError(
                f"{self._store.uri}/{key} has {stat.size_bytes} bytes; "
                f"its manifest says {expected.size_bytes}"
            )
        path = as_local(self._store, key, self._scratch)
        if self._verify and digest_file(path) != expected.sha256:
            raise CorruptError(f"{self._store.uri}/{key} does not match its digest")
        return path

    def load(self, entries: dict[str, StoredTensor]) -> dict[str, Tensor]:
        names = {entry.file for entry in entries.values() if entry.file}
        names |= {piece.file for entry in entries.values() for piece in entry.slices}
        try:
            files = {name: load_file(self.path(name)) for name in sorted(names)}
            return {name: _tensor(name, entry, files) for name, entry in entries.items()}
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise CorruptError(
                f"{self._store.uri}/{self._prefix} does not hold what its index says: {error}"
            ) from error


def _tensor(name: str, entry: StoredTensor, files: dict[str, dict[str, Tensor]]) -> Tensor:
    if not entry.slices:
        tensor = files[entry.file][name]
        if tuple(tensor.shape) != entry.shape:
            raise CorruptError(f"{name} has shape {tuple(tensor.shape)}, not {entry.shape}")
        return tensor
    whole = torch.zeros(entry.shape, dtype=getattr(torch, entry.dtype))
    covered = torch.zeros(entry.shape, dtype=torch.bool)
    for piece in entry.slices:
        sizes = zip(piece.offsets, piece.shape, strict=True)
        box = tuple(slice(offset, offset + size) for offset, size in sizes)
        whole[box] = files[piece.file][piece.key]
        covered[box] = True
    if not bool(covered.all()):
        raise CorruptError(f"the slices of {name} do not cover its shape {entry.shape}")
    return whole
