"""Ranks of a real process group go on from one checkpoint, or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny.ledgers import begin

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.rank_environment import one_node
from kinetoscope.storage.open import open_store
from kinetoscope.training.loop.checkpoints import StoreCheckpoints

RANK = """
import json, os, sys
import torch
from kinetoscope.core.errors import KinetoscopeError, StorageError
from kinetoscope.steps.rank_environment import read_rank_environment
from kinetoscope.storage.open import open_store
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine
from kinetoscope.training.loop.agreement import agree_on_checkpoint, agree_on_start
from kinetoscope.steps.rank_environment import read_rank_environment
from kinetoscope.training.loop.checkpoints import StoreCheckpoints
from kinetoscope.training.loop.surroundings import Surroundings

ranks = read_rank_environment(os.environ)
rank = ranks.rank
uris, known, weights = json.loads(sys.argv[1])
engine = TorchDDPEngine(ranks, dtype="fp32")
# The attempt that the test began; a rank of a further node knows of none.
checkpoints = StoreCheckpoints(store=open_store(uris[rank]), keep=9, generation=1)
joined = []
around = Surroundings(
    "toy", ranks, checkpoints, None, stop=lambda: False,
    generation=known[rank], join=joined.append,
)
try:
    found = agree_on_checkpoint(engine, around)
    step = found[1].state.step if found else 0
    value = found[1].tensors["weights"]["w"] if found else torch.zeros(3)
    agree_on_start(engine, {"step": step}, {"w": value + weights[rank]})
    assert joined == [known[0]], joined
    told = {"step": step}
except KinetoscopeError as error:
    told = {"error": str(error)}
# At once: threads of gloo may end the interpreter with an abort, in which words are lost.
print(json.dumps(told), flush=True)
"""


def save(folder: Path, *steps: int) -> str:
    store = open_store(folder.as_uri())
    checkpoints = StoreCheckpoints(store=store, keep=9, generation=begin(store))
    for step in steps:
        tensors = {"weights": {"w": torch.full((3,), float(step))}}
        checkpoints.save(tensors, CheckpointState(step=step))
    return folder.as_uri()


def run(
    uris: list[str], *, known: list[int] | None = None, weights: list[float] | None = None
) -> list[dict[str, Any]]:
    """Run a rank on each store; return what each printed."""
    node = one_node(len(uris))
    argument = json.dumps([uris, known or [1] * len(uris), weights or [0.0] * len(uris)])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, argument],
            env=os.environ | node.variables(rank) | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(len(uris))
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def test_all_ranks_take_what_rank_0_chose(tmp_path: Path) -> None:
    uri = save(tmp_path, 10, 20, 30)
    assert run([uri] * 3) == [{"step": 30}] * 3
    empty = save(tmp_path / "empty")
    # A rank that sees more than rank 0 does not go on from that.
    assert run([empty, uri]) == [{"step": 0}] * 2


@pytest.mark.parametrize("seen", [(10, 20), ()], ids=["an older view", "an empty view"])
def test_a_rank_that_does_not_see_the_choice_ends_the_attempt(
    tmp_path: Path, seen: tuple[int, ...]
) -> None:
    good, other = save(tmp_path / "a", 10, 20, 30), save(tmp_path / "b", *seen)
    told = run([good, other])
    for word in told:
        assert "rank 1 can't read what rank 0 can: " in word["error"]
        assert "step-00000030" in word["error"]


def test_a_rank_with_another_checkpoint_of_that_name_ends_the_attempt(tmp_path: Path) -> None:
    good, other = save(tmp_path / "a", 30), tmp_path / "b"
    store = open_store(other.as_uri())
    checkpoints = StoreCheckpoints(store=store, keep=9, generation=begin(store))
    checkpoints.save({"weights": {"w": torch.zeros(3)}}, CheckpointState(step=30))
    assert "is not the checkpoint that was agreed on" in run([good, other.as_uri()])[1]["error"]


def test_a_rank_of_another_attempt_is_told_on_every_rank(tmp_path: Path) -> None:
    uri = save(tmp_path, 10)
    told = run([uri] * 3, known=[1, 0, 2])
    assert [word["error"] for word in told] == ["rank 2 has attempt '2'; agreed was '1'"] * 3


def test_a_rank_of_a_further_node_hears_of_the_attempt(tmp_path: Path) -> None:
    assert run([save(tmp_path, 10)] * 2, known=[1, 0]) == [{"step": 10}] * 2


def test_what_rank_0_finds_damaged_is_passed_over_by_all(tmp_path: Path) -> None:
    uri = save(tmp_path, 10, 20, 30)
    newest = Ledger(open_store(uri)).state().newest
    assert newest is not None
    open_store(uri).put_bytes(f"{newest.prefix}/weights.safetensors", b"damaged")
    assert run([uri] * 3) == [{"step": 20}] * 3
    assert Ledger(open_store(uri)).state().damaged == (newest.prefix,)


def test_a_rank_with_other_weights_is_told_before_the_first_step(tmp_path: Path) -> None:
    uri = save(tmp_path, 10)
    told = run([uri] * 2, weights=[0.0, 1e-3])
    assert all("rank 1 has weights 'sha256:" in word["error"] for word in told)
