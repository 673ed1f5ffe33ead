"""The checkpoints of a training: saved, pruned, found again, and of whom they are."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny.ledgers import begin

from kinetoscope.checkpoints.layout import MANIFEST, CheckpointState
from kinetoscope.checkpoints.read import Checkpoint
from kinetoscope.checkpoints.retention import list_checkpoints
from kinetoscope.core.config_model import RECORD_DIGEST, signed_json
from kinetoscope.core.errors import CorruptError, StorageError, SupersededError
from kinetoscope.core.hashing import digest_bytes, digest_json
from kinetoscope.steps.contract import StepSpec
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.rank_environment import RankEnvironment
from kinetoscope.steps.worker import StepContext
from kinetoscope.storage.open import open_store
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine
from kinetoscope.training.loop.agreement import agree_on_checkpoint
from kinetoscope.training.loop.checkpoints import Checkpoints, ChosenCheckpoint, StoreCheckpoints
from kinetoscope.training.loop.surroundings import Surroundings
from kinetoscope.training.smoke.proof import PassingCheckpoints


def groups(value: float) -> dict[str, dict[str, torch.Tensor]]:
    return {"weights": {"w": torch.full((3,), value)}}


def state(step: int) -> CheckpointState:
    return CheckpointState(step=step, epoch=1, plan_position=step, extra={"loss": 0.5})


def kept(tmp_path: Path, **changes: Any) -> StoreCheckpoints:
    store = open_store(tmp_path.as_uri())
    return StoreCheckpoints(**{"store": store, "keep": 2, "generation": begin(store), **changes})


def step_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generation: int) -> StepContext:
    for variable, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(variable, value)
    spec = StepSpec(
        name="train_vae_1",
        worker="unused",
        run_id="raaaaaaa",
        root_uri=(tmp_path / "objects").as_uri(),
        config={"loop": {"num_steps": 3}},
        seed=0,
        inputs={},
        fingerprint="0",
    )
    assert begin(open_store(spec.uri)) == generation
    return StepContext(spec, generation=generation, attempt_path=tmp_path / f"try-{generation}")


def test_where_nothing_was_saved_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert kept(tmp_path).choose() is None


def test_the_latest_comes_back_with_its_state_and_origin(tmp_path: Path) -> None:
    checkpoints = kept(tmp_path, config_hash="sha256:1", lineage={"clips": "sha256:2"})
    saved = checkpoints.save(groups(1.0), state(7))
    chosen = checkpoints.choose()
    assert chosen is not None
    assert (chosen.prefix, chosen.step) == (saved.prefix, 7)
    checkpoint = checkpoints.load(chosen)
    assert saved.num_bytes == sum(f.size_bytes for f in checkpoints.store.list(saved.prefix)) > 0
    assert torch.equal(checkpoint.tensors["weights"]["w"], torch.ones(3))
    expected = state(7).model_copy(
        update={"config_hash": "sha256:1", "lineage": {"clips": "sha256:2"}}
    )
    assert checkpoint.state == expected


def test_only_the_last_ones_stay(tmp_path: Path) -> None:
    checkpoints = kept(tmp_path)
    prefixes = [checkpoints.save(groups(step), state(step)).prefix for step in range(4)]
    assert list_checkpoints(checkpoints.store) == prefixes[-2:]


def go_on(checkpoints: StoreCheckpoints) -> Checkpoint | None:
    """Return what a training of one rank goes on from."""
    ranks = RankEnvironment(1, 0, 1, 0, "127.0.0.1", 0)
    reporter: Any = None  # nobody steps here
    around = Surroundings("toy", ranks, checkpoints, reporter, stop=lambda: False)
    engine = TorchDDPEngine(ranks, dtype="fp32")
    found = agree_on_checkpoint(engine, around)
    return found[1] if found else None


@pytest.mark.parametrize("what", ["another file", "a flipped byte", "gone", "no manifest"])
def test_a_damaged_one_is_passed_over_for_ever(tmp_path: Path, what: str) -> None:
    checkpoints = kept(tmp_path)
    good, bad = (checkpoints.save(groups(step), state(step)).prefix for step in (1, 2))
    store, weights = checkpoints.store, f"{bad}/weights.safetensors"
    whole = store.get_bytes(weights)
    if what == "another file":
        store.put_bytes(weights, b"damaged")
    elif what == "a flipped byte":
        store.put_bytes(weights, whole[:-1] + bytes([whole[-1] ^ 1]))
    else:
        store.delete(weights if what == "gone" else f"{bad}/MANIFEST.json")
    found = go_on(checkpoints)
    assert found is not None
    assert found.state.step == 1
    store.put_bytes(weights, whole)  # too late: the ledger has it
    later = kept(tmp_path)
    chosen = later.choose()
    assert chosen is not None
    assert chosen.prefix == good
    assert [e.what.kind for e in Ledger(store).entries()][-2:] == ["damaged", "attempt"]


def test_where_all_are_damaged_training_starts_afresh(tmp_path: Path) -> None:
    checkpoints = kept(tmp_path)
    for step in (1, 2):
        prefix = checkpoints.save(groups(step), state(step)).prefix
        checkpoints.store.put_bytes(f"{prefix}/index.json", b"{}")
    assert go_on(checkpoints) is None


def test_those_of_a_step_carry_its_config_and_stop_at_a_later_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = step_context(tmp_path, monkeypatch, 1)
    checkpoints = StoreCheckpoints.of_step(first, keep=2)
    prefix = checkpoints.save(groups(1.0), state(1)).prefix
    chosen = checkpoints.choose()
    assert chosen is not None
    found = checkpoints.load(chosen)
    assert found.state.config_hash == digest_json(first.config)
    assert found.generation == 1
    second = step_context(tmp_path, monkeypatch, 2)
    for step in (1, 2):
        with pytest.raises(SupersededError):
            checkpoints.save(groups(2.0), state(step))
    with pytest.raises(SupersededError):
        checkpoints.choose()
    assert list_checkpoints(second.store) == [prefix]
    later = StoreCheckpoints.of_step(second, keep=2)
    assert later.choose() is not None
    assert later.save(groups(3.0), state(2)).prefix.endswith("step-00000002-gen-000002-save-0001")


def test_a_first_training_goes_on_from_nothing_that_was_left(tmp_path: Path) -> None:
    kept(tmp_path).save(groups(1.0), state(1))
    checkpoints: Checkpoints = PassingCheckpoints(open_store(tmp_path.as_uri()))
    assert checkpoints.choose() is None


def test_a_checkpoint_that_is_another_than_the_chosen_is_not_loaded(tmp_path: Path) -> None:
    checkpoints = kept(tmp_path)
    checkpoints.save(groups(1.0), state(1))
    chosen = checkpoints.choose()
    assert chosen is not None
    with pytest.raises(CorruptError, match="is not the checkpoint that was agreed on"):
        checkpoints.load(replace(chosen, digest="sha256:other"))


def test_a_read_error_is_no_reason_to_go_on_from_an_older_one(tmp_path: Path) -> None:
    checkpoints = kept(tmp_path)
    for step in (1, 2):
        prefix = checkpoints.save(groups(step), state(step)).prefix
    path = tmp_path / prefix / "weights.safetensors"
    path.unlink()
    path.symlink_to(path)  # it is there, and can't be read
    with pytest.raises((StorageError, OSError)) as caught:
        go_on(checkpoints)
    assert not isinstance(caught.value, CorruptError)
    newest = Ledger(checkpoints.store).state().newest
    assert newest is not None
    assert newest.step == 2


@pytest.mark.parametrize("what", ["of another step", "of another place"])
def test_a_checkpoint_that_was_copied_in_is_passed_over(tmp_path: Path, what: str) -> None:
    """Step 4's files in step 8's folder, and those of another training in this one's."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    checkpoints = kept(ours, identity="train_vae_3/aa")
    old, new = (checkpoints.save(groups(step), state(step)).prefix for step in (4, 8))
    if what == "of another step":
        source = ours / old
    else:
        other = kept(theirs, identity="train_vae_2/aa")
        source = theirs / other.save(groups(8.5), state(8)).prefix
    shutil.rmtree(ours / new)
    shutil.copytree(source, ours / new)
    found = go_on(checkpoints)
    assert found is not None
    assert found.state.step == 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_figures_that_are_no_numbers_come_back(tmp_path: Path, value: float) -> None:
    checkpoints = kept(tmp_path)
    checkpoints.save(groups(1.0), state(1).model_copy(update={"extra": {"loss": value}}))
    chosen = checkpoints.choose()
    assert chosen is not None
    assert str(checkpoints.load(chosen).state.extra["loss"]) == str(value)


def test_double_precision_is_kept(tmp_path: Path) -> None:
    checkpoints = kept(tmp_path)
    exact = torch.tensor([1 / 3], dtype=torch.float64)
    checkpoints.save({"weights": {"w": exact, "h": exact.half()}}, state(1))
    chosen = checkpoints.choose()
    assert chosen is not None
    found = checkpoints.load(chosen).tensors["weights"]
    assert torch.equal(found["w"], exact)
    assert found["h"].dtype is torch.float32


def test_a_checkpoint_of_a_later_version_is_gone_on_from(tmp_path: Path) -> None:
    checkpoints = kept(tmp_path)
    prefix = checkpoints.save(groups(1.0), state(10)).prefix
    manifest = tmp_path / prefix / MANIFEST
    value = json.loads(manifest.read_bytes())
    del value[RECORD_DIGEST]
    manifest.write_bytes(signed_json(value | {"of_a_later_version": 1}))
    digest = digest_bytes(manifest.read_bytes())
    assert checkpoints.load(ChosenCheckpoint(prefix, digest, 10)).state.step == 10
