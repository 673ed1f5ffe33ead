"""What the smoke job shows once it has trained: equal weights, a checkpoint that comes back."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.checkpoints.read import Checkpoint, read_checkpoint
from kinetoscope.checkpoints.write import Author, Tensors, write_checkpoint
from kinetoscope.core.errors import CorruptError, KinetoscopeError, StorageError
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore
from kinetoscope.training.engine.base import Engine
from kinetoscope.training.loop.checkpoints import ChosenCheckpoint, SavedCheckpoint

_log = logging.getLogger("kinetoscope.smoke")


@dataclass(frozen=True, slots=True)
class PassingCheckpoints:
    """Checkpoints of a training that always starts afresh and that nobody goes on from."""

    store: ObjectStore
    stays: ClassVar[bool] = False

    def choose(self) -> None:
        """Return nothing to go on from, whatever a killed job has left."""

    def load(self, chosen: ChosenCheckpoint) -> Checkpoint:
        """Read a checkpoint."""
        return read_checkpoint(self.store, chosen.prefix)

    def give_up(self, chosen: ChosenCheckpoint, reason: str) -> None:
        """Nothing counts here."""

    def save(self, groups: Tensors, state: CheckpointState) -> SavedCheckpoint:
        """Write a checkpoint."""
        prefix, manifest = write_checkpoint(
            self.store, tensors=groups, state=state, author=Author()
        )
        return SavedCheckpoint(prefix, manifest.size_bytes)


@contextmanager
def passing_checkpoints(store_uri: str, name: str, *, delete: bool) -> Iterator[PassingCheckpoints]:
    """Give checkpoints below ``doctor/NAME`` that are gone afterwards, however the job ends.

    Args:
        store_uri: root of the object store.
        name: of the job.
        delete: whether this rank deletes them; one of the job has to.

    Raises:
        CorruptError: the store lists what was deleted.
    """
    root, folder = open_store(store_uri), f"doctor/{name}"
    try:
        yield PassingCheckpoints(open_store(join_uri(store_uri, folder)))
    except BaseException:
        if delete:
            _delete_if_possible(root, folder)
        raise
    if not delete:
        return
    root.delete_prefix(folder)
    if left := root.list(folder):
        raise CorruptError(f"{root.uri} still lists {left[0].key} after it was deleted")


def check_checkpoint(
    store: ObjectStore,
    prefix: str,
    groups: Mapping[str, Mapping[str, Tensor]],
    *,
    num_steps: int,
) -> int:
    """Read a checkpoint back and compare it with what was trained; return its size in bytes.

    Args:
        store: that has it.
        prefix: its key prefix.
        groups: the trained tensors by group and name.
        num_steps: optimizer steps done.

    Raises:
        CorruptError: what came back is not what was trained.
    """
    back = read_checkpoint(store, prefix)
    if back.state.step != num_steps or not _equal(back.tensors, groups):
        raise CorruptError(f"the checkpoint {store.uri}/{prefix} differs from what was trained")
    return sum(file.size_bytes for file in store.list(prefix))


def compare_ranks(engine: Engine, digest: str) -> None:
    """Raise ``KinetoscopeError`` unless all ranks have the same weights, bit for bit.

    The digest travels as numbers of 32 bits, which float64 adds exactly: where every rank finds the
    sum to be its own number times the number of ranks, all numbers are equal.

    Args:
        engine: of this rank; all ranks have to call this.
        digest: of this rank's weights.
    """
    text = digest.removeprefix("sha256:")
    own = torch.tensor([int(text[i : i + 8], 16) for i in range(0, 64, 8)], dtype=torch.float64)
    if not torch.equal(engine.sum_over_ranks(own).cpu(), own * engine.data_size):
        raise KinetoscopeError(
            f"the weights of the ranks differ after training; this one has {digest}",
            hint="gradients were not summed over all ranks: look at the network between the pods",
        )


def _delete_if_possible(root: ObjectStore, folder: str) -> None:
    try:
        root.delete_prefix(folder)
    except StorageError as error:  # what ended the job is the better reason
        _log.warning("%s may be left in %s: %s", folder, root.uri, error.message)


def _equal(
    found: Mapping[str, Mapping[str, Tensor]], expected: Mapping[str, Mapping[str, Tensor]]
) -> bool:
    return found.keys() == expected.keys() and all(
        found[group].keys() == tensors.keys()
        and all(torch.equal(found[group][name], t.detach().cpu()) for name, t in tensors.items())
        for group, tensors in expected.items()
    )
