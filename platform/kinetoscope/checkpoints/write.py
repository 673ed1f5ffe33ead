"""Write a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import Tensor

from kinetoscope.checkpoints.layout import (
    INDEX,
    MANIFEST,
    CheckpointState,
    Index,
    Manifest,
    Place,
    StoredFile,
    StoredSlice,
    StoredTensor,
    join,
)
from kinetoscope.core.hashing import digest_bytes, digest_file
from kinetoscope.storage.store import ObjectStore


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """A box of a sharded tensor; ``offsets`` is where it begins in each axis of the whole."""

    offsets: tuple[int, ...]
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class SlicedTensor:
    """A tensor that an engine holds in pieces."""

    shape: tuple[int, ...]
    slices: tuple[TensorSlice, ...]


Tensors = Mapping[str, Mapping[str, Tensor | SlicedTensor]]
"""Group (``weights``, ``optimizer``, ``ema``) -> parameter name -> tensor."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes a checkpoint.

    Attributes:
        generation: number of this attempt of the training step.
        save: number of this save of the attempt.
        identity: of the training step; empty: of none.
    """

    generation: int = 1
    save: int = 1
    identity: str = ""


def write_checkpoint(
    store: ObjectStore,
    *,
    tensors: Tensors,
    state: CheckpointState,
    author: Author,
    scratch: Path | None = None,
) -> tuple[str, Manifest]:
    """Write a checkpoint, which counts once the step's ledger names it.

    Floating-point tensors of up to 32 bits are stored as contiguous fp32, others as they are.

    Args:
        store: of the training step.
        tensors: by group and name.
        state: everything else.
        author: who writes it.
        scratch: folder for the files before they are uploaded; the system's by default.

    Returns:
        The key prefix of the checkpoint in the store, and its manifest.
    """
    prefix = Place(author.generation, author.save, state.step).prefix
    index = Index(
        state=state, tensors={group: _entries(group, tensors[group]) for group in tensors}
    )
    files: dict[str, StoredFile] = {}
    with TemporaryDirectory(dir=scratch, prefix="checkpoint-") as temporary:
        for group in tensors:
            path = Path(temporary, _file(group))
            save_file(_flat(tensors[group]), path)
            files[path.name] = _upload(store, prefix, path)
            path.unlink()
        path = Path(temporary, INDEX)
        path.write_bytes(index.to_bytes())
        files[path.name] = _upload(store, prefix, path)
    manifest = Manifest(
        step=state.step,
        generation=author.generation,
        save=author.save,
        identity=author.identity,
        files=files,
    )
    data = manifest.to_bytes()
    store.put_bytes(join(prefix, MANIFEST), data)
    return prefix, manifest.model_copy(update={"digest": digest_bytes(data)})


def _upload(store: ObjectStore, prefix: str, path: Path) -> StoredFile:
    store.put_file(join(prefix, path.name), path)
    return StoredFile(size_bytes=path.stat().st_size, sha256=digest_file(path))


def _file(group: str) -> str:
    return f"{group}.safetensors"


def _entries(group: str, named: Mapping[str, Tensor | SlicedTensor]) -> dict[str, StoredTensor]:
    entries = {}
    for name, value in named.items():
        if isinstance(value, SlicedTensor):
            dtype = _stored_dtype(value.slices[0].tensor)
            slices = tuple(
                StoredSlice(
                    file=_file(group),
                    key=f"{name}#{number}",
                    offsets=piece.offsets,
                    shape=tuple(piece.tensor.shape),
                )
                for number, piece in enumerate(value.slices)
            )
            entries[name] = StoredTensor(dtype=dtype, shape=value.shape, slices=slices)
        else:
            shape = tuple(value.shape)
            entries[name] = StoredTensor(dtype=_stored_dtype(value), shape=shape, file=_file(group))
    return entries


def _flat(named: Mapping[str, Tensor | SlicedTensor]) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, value in named.items():
        if isinstance(value, SlicedTensor):
            pieces = enumerate(value.slices)
            flat.update({f"{name}#{number}": _plain(piece.tensor) for number, piece in pieces})
        else:
            flat[name] = _plain(value)
    # safetensors refuses names that share memory (tied weights): each gets a copy of its own.
    seen: set[int] = set()
    for name, tensor in flat.items():
        storage = tensor.untyped_storage().data_ptr()
        if storage in seen or tensor.untyped_storage().nbytes() != tensor.nbytes:
            flat[name] = tensor.clone()
        seen.add(storage)
    return flat


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", _kept_dtype(tensor)).contiguous()


def _kept_dtype(tensor: Tensor) -> torch.dtype:
    narrow = tensor.is_floating_point() and tensor.dtype is not torch.float64
    return torch.float32 if narrow else tensor.dtype


def _stored_dtype(tensor: Tensor) -> str:
    return str(_kept_dtype(tensor)).removeprefix("torch.")
