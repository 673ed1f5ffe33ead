"""Ranks go on from one checkpoint, which rank 0 chose, and show that they hold the same weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kinetoscope.checkpoints.read import Checkpoint
from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.training.engine.base import Engine
from kinetoscope.training.loop.checkpoints import Checkpoints, ChosenCheckpoint

_WAY_OUT = "start it again; ranks of another attempt or version may still have been there"


def agree_on_checkpoint(
    engine: Engine, checkpoints: Checkpoints | None, known: Mapping[str, str], *, rank: int
) -> tuple[ChosenCheckpoint, Checkpoint] | None:
    """Return what rank 0 chose to go on from, as this rank read it; None: training starts afresh.

    No rank looks for a checkpoint of its own: one that sees the store otherwise, for a moment,
    would train on from another step.

    Args:
        engine: of this rank; all ranks have to call this.
        checkpoints: of the training; None: there are none.
        known: what this rank knows of the training without the others, by what it is called.
        rank: of this process.

    Raises:
        KinetoscopeError: a rank knows something else.
        StorageError: rank 0 could not choose, or this rank could not read the choice.
    """
    choice = checkpoints.choose() if rank == 0 and checkpoints is not None else None
    told = engine.gather_text(
        json.dumps({"known": dict(known), "choice": choice and choice.to_json()})
    )
    words = [json.loads(text) for text in told]
    for other, word in enumerate(words):
        _compare(other, word["known"], words[0]["known"])
    chosen = words[0]["choice"]
    if chosen is None or checkpoints is None:
        return None
    agreed = ChosenCheckpoint(**chosen)
    return agreed, checkpoints.load(agreed)


def agree_on_start(engine: Engine, start: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Show, before the first step, that all ranks begin at the same place with the same weights.

    Args:
        engine: of this rank; all ranks have to call this.
        start: what this rank goes on from, by what it is called.
        weights: of this rank's model.

    Raises:
        KinetoscopeError: a rank has others.
    """
    own = {name: str(value) for name, value in start.items()}
    told = engine.gather_text(json.dumps({**own, "weights": weights_digest(weights)}))
    for rank, text in enumerate(told):
        _compare(rank, json.loads(text), json.loads(told[0]))


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return a digest of names, shapes and bits of the tensors."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{sha.hexdigest()}"


def _compare(rank: int, has: Mapping[str, str], agreed: Mapping[str, str]) -> None:
    for name in agreed.keys() | has.keys():
        if has.get(name) != agreed.get(name):
            raise KinetoscopeError(
                f"rank {rank} has {name} {has.get(name)!r}; agreed was {agreed.get(name)!r}",
                hint=_WAY_OUT,
            )
