"""Ranks go on from one checkpoint, which rank 0 chose, and show that they hold the same weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kinetoscope.checkpoints.read import Checkpoint
from kinetoscope.core.errors import CorruptError, KinetoscopeError
from kinetoscope.training.engine.base import Engine
from kinetoscope.training.engine.rendezvous import first_difference
from kinetoscope.training.loop.checkpoints import Checkpoints, ChosenCheckpoint
from kinetoscope.training.loop.surroundings import Surroundings

_WAY_OUT = "start it again; ranks of another attempt or version may still have been there"


def agree_on_checkpoint(
    engine: Engine, around: Surroundings
) -> tuple[ChosenCheckpoint, Checkpoint] | None:
    """Return what rank 0 chose to go on from, as this rank read it; None: training starts afresh.

    No rank looks for a checkpoint of its own: one that sees the store otherwise, for a moment,
    would train on from another step. What rank 0 finds damaged counts no more, and all go on from
    the one before it; what another rank alone finds damaged ends the attempt.

    Args:
        engine: of this rank; all ranks have to call this.
        around: where this rank trains; it joins the attempt that rank 0 names.

    Raises:
        KinetoscopeError: a rank knows something else, or can't read what rank 0 can.
        StorageError: rank 0 could not choose, or this rank could not read the choice now.
    """
    rank, checkpoints = around.ranks.rank, around.checkpoints
    _agree_on_attempt(engine, around)
    while True:
        choice = checkpoints.choose() if rank == 0 and checkpoints is not None else None
        words = engine.gather_text(json.dumps(choice.to_json() if choice is not None else None))
        if checkpoints is None or json.loads(words[0]) is None:
            return None
        chosen = ChosenCheckpoint(**json.loads(words[0]))
        found, damage = _load(checkpoints, chosen)
        told = engine.gather_text(damage)
        if not any(told) and found is not None:
            return chosen, found
        if not told[0]:
            other = next(number for number, text in enumerate(told) if text)
            raise KinetoscopeError(
                f"rank {other} can't read what rank 0 can: {told[other]}", hint=_WAY_OUT
            )
        if rank == 0:
            checkpoints.give_up(chosen, damage)


def _agree_on_attempt(engine: Engine, around: Surroundings) -> None:
    told = [int(text) for text in engine.gather_text(str(around.generation))]
    for rank, generation in enumerate(told):
        # Ranks of further nodes hear of the attempt only here.
        _compare(rank, {"attempt": str(generation or told[0])}, {"attempt": str(told[0])})
    around.join(told[0])


def _load(checkpoints: Checkpoints, chosen: ChosenCheckpoint) -> tuple[Checkpoint | None, str]:
    try:
        return checkpoints.load(chosen), ""
    except CorruptError as error:
        return None, error.message


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
    if difference := first_difference(rank, has, agreed):
        raise KinetoscopeError(difference, hint=_WAY_OUT)
