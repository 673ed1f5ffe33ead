"""The checkpoint of the smoke job: written to the object store, read back, deleted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.checkpoints.read import read_checkpoint, read_manifest
from kinetoscope.checkpoints.write import write_checkpoint
from kinetoscope.core.errors import CorruptError
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store


def check_checkpoint(
    store_uri: str, name: str, groups: Mapping[str, Mapping[str, Tensor]], *, num_steps: int
) -> dict[str, Any]:
    """Write a checkpoint below ``doctor/NAME``, read it back, compare and delete it.

    Args:
        store_uri: root of the object store.
        name: of the job.
        groups: tensors by group and name.
        num_steps: optimizer steps done.

    Returns:
        ``written``, ``read`` and ``deleted`` (true), ``bytes`` and ``write_seconds``.

    Raises:
        StorageError: the store did not do what it was asked.
        CorruptError: what came back is not what was written.
    """
    root, folder = open_store(store_uri), f"doctor/{name}"
    store = open_store(join_uri(store_uri, folder))
    try:
        started = time.monotonic()
        prefix = write_checkpoint(
            store,
            tensors=groups,
            state=CheckpointState(step=num_steps),
            generation=1,
            check_fence=lambda: None,
        )
        seconds = time.monotonic() - started
        size = sum(file.size_bytes for file in read_manifest(store, prefix).files.values())
        back = read_checkpoint(store, prefix)
        if back.state.step != num_steps or not _equal(back.tensors, groups):
            raise CorruptError(f"the checkpoint {store.uri}/{prefix} differs from what was written")
    finally:
        root.delete_prefix(folder)
    if left := root.list(folder):
        raise CorruptError(f"{root.uri} still lists {left[0].key} after it was deleted")
    return {"written": True, "read": True, "deleted": True, "bytes": size, "write_seconds": seconds}


def _equal(
    found: Mapping[str, Mapping[str, Tensor]], expected: Mapping[str, Mapping[str, Tensor]]
) -> bool:
    return found.keys() == expected.keys() and all(
        found[group].keys() == tensors.keys()
        and all(torch.equal(found[group][name], t.detach().cpu()) for name, t in tensors.items())
        for group, tensors in expected.items()
    )
