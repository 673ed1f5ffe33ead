"""Attempts by the real code: lease, ledger, agreement, checkpoints, retention and results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from protocol.faulty_store import FaultyStore
from protocol.oracle import Log
from protocol.ranks import NUM_RANKS, NUM_STEPS, Rank, ThreadEngine
from tiny.memory_store import MemoryStore

from kinetoscope.checkpoints.layout import CheckpointState, Place
from kinetoscope.checkpoints.read import Checkpoint, read_checkpoint
from kinetoscope.checkpoints.write import Tensors
from kinetoscope.steps import attempts, repeating, results, worker
from kinetoscope.steps.attempts import acquire
from kinetoscope.steps.contract import StepSpec
from kinetoscope.steps.ledger import ledger as ledgers
from kinetoscope.steps.ledger.entries import Ended, LedgerState, RolledBack
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.rank_environment import RankEnvironment
from kinetoscope.steps.results import keep_result, read_result
from kinetoscope.steps.worker import Outputs, StepContext
from kinetoscope.storage.store import ObjectStore
from kinetoscope.training.loop.agreement import agree_on_checkpoint, agree_on_start
from kinetoscope.training.loop.checkpoints import StoreCheckpoints
from kinetoscope.training.loop.surroundings import Surroundings

ROOT_URI = "memory:///root"
_SPEC = StepSpec(
    name="train",
    worker="unused",
    run_id="raaaaaaa",
    root_uri=ROOT_URI,
    config={"num_steps": NUM_STEPS},
    seed=0,
    inputs={},
    fingerprint="0",
)
STEP_URI = _SPEC.uri
_STORES: dict[str, ObjectStore] = {ROOT_URI: MemoryStore(ROOT_URI)}


def open_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let URIs name stores in memory, nobody wait for anything, and folds be kept often.

    What is right must not hang on how long a holder is waited for, or on where a fold lies.
    """
    monkeypatch.setattr(results, "open_store", _STORES.__getitem__)
    monkeypatch.setattr(worker, "open_store", _STORES.__getitem__)
    monkeypatch.setattr(attempts, "LEASE_SECONDS", 0.0)
    monkeypatch.setattr(repeating, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(ledgers, "_FOLD_EVERY", 2)


class LedgerProtocol:
    """All that attempts share is the step's store."""

    def __init__(self, store: FaultyStore, folder: Path, keep: int) -> None:
        self._store = store
        self._folder = folder
        self._keep = keep
        self.log = Log(store.world)
        store.on_created = self.log.created
        store.on_deleted = self.log.deleted
        _STORES[STEP_URI] = store

    def begin(self, number: int) -> int | None:
        # Each of a start of its own: no brake.
        state = acquire(self._store, _SPEC.model_copy(update={"start": number}), lambda: False)
        keep_result(self._store, state)
        return None if state.result is not None else state.generation

    def rank(self, generation: int, rank: int, engine: ThreadEngine) -> Rank:
        ctx = StepContext(_SPEC, generation=generation, attempt_path=self._folder)
        return LedgerRank(ctx, rank, engine, self._keep)

    def end(self, generation: int, code: int) -> None:
        ended = Ended(code=code)
        state = Ledger(self._store).state()
        if state.result is not None:
            keep_result(self._store, state)
        else:
            Ledger(self._store).append(lambda _: ended, generation)

    def result(self) -> str | None:
        found = read_result(STEP_URI)
        return found.artifact("checkpoint").key if found else None

    def check(self) -> None:
        """Compare the ledger, and what it says counts, with what has happened."""
        log, world, objects = self.log, self._store.world, self._store.objects
        state = Ledger(objects).state()
        told = ([saved.prefix for saved in state.checkpoints], state.generation)
        if told != (log.kept, log.generation):
            world.fail(f"the ledger says {told}, and what happened is {log.kept, log.generation}")
        if (state.result.result if state.result else None) != log.result:
            world.fail(f"the ledger says {state.result}, and what happened is {log.result}")


class LedgerRank:
    """What a rank's process holds."""

    def __init__(self, ctx: StepContext, rank: int, engine: ThreadEngine, keep: int) -> None:
        self._ctx = ctx
        self._checkpoints = StoreCheckpoints.of_step(ctx, keep=keep)
        self._engine: Any = engine  # it only lets ranks meet
        self._num_saves = 0
        reporter: Any = None  # nobody steps here
        self._around = Surroundings(
            "toy",
            RankEnvironment(NUM_RANKS, 0, NUM_RANKS, rank, "127.0.0.1", 0),
            self._checkpoints,
            reporter,
            stop=lambda: False,
            generation=ctx.generation,
        )

    def agree(self) -> Checkpoint | None:
        found = agree_on_checkpoint(self._engine, self._around)
        weights = found[1].tensors["weights"] if found else {"w": torch.zeros(2)}
        start = {"a start from": found[0].digest if found else "nothing"}
        agree_on_start(self._engine, start, weights)
        return found[1] if found else None

    def next_prefix(self, step: int) -> str:
        return Place(self._ctx.generation, self._num_saves + 1, step).prefix

    def save(self, groups: Tensors, state: CheckpointState) -> str:
        self._num_saves += 1
        return self._checkpoints.save(groups, state).prefix

    def roll_back(self) -> str:
        to = ""

        def before_newest(state: LedgerState) -> RolledBack:
            nonlocal to
            to = state.checkpoints[-2].prefix if len(state.checkpoints) > 1 else ""
            return RolledBack(to=to)

        self._ctx.ledger.append(before_newest, self._ctx.generation)
        return to

    def commit(self, prefix: str) -> None:
        self._ctx.commit(Outputs({"checkpoint": prefix}))


def is_whole(store: ObjectStore, prefix: str, mark: int) -> bool:
    """Tell whether a checkpoint holds what a save wrote."""
    found = read_checkpoint(store, prefix)
    return int(found.tensors["weights"]["w"][0]) == mark
