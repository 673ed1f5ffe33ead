"""Training that is killed and resumed ends with the same bits, on 1 and 2 real ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from tiny.steps import ranks, start_supervisor
from tiny.training import CONFIG, final_checkpoint, other_bits, training_spec

from kinetoscope.checkpoints.read import Checkpoint, read_checkpoint
from kinetoscope.checkpoints.retention import list_checkpoints
from kinetoscope.core.errors import DivergedError, ExitCode
from kinetoscope.core.uris import file_path
from kinetoscope.steps.contract import StepSpec
from kinetoscope.steps.execute import execute
from kinetoscope.steps.results import read_result, read_status
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore
from kinetoscope.telemetry.scrape import scrape

ROOT = Path(__file__).resolve().parents[2]
NUM_STEPS = CONFIG["loop"]["num_steps"]


class Workplace:
    """A workspace with clips, whose steps run under real supervisors."""

    def __init__(self, path: Path, clips_uri: str) -> None:
        self.path = path
        self._clips_uri = clips_uri
        self._undisturbed: dict[int, StepSpec] = {}

    def spec(self, name: str, num_ranks: int, **loop: object) -> StepSpec:
        """Return a step of its own; ``name`` is no part of the training's random keys."""
        return training_spec(self._clips_uri, f"{name}-{num_ranks}", ranks(num_ranks), **loop)

    def undisturbed(self, num_ranks: int) -> Checkpoint:
        """Return the final checkpoint of a training that nothing happened to."""
        if num_ranks not in self._undisturbed:
            spec = self.spec("undisturbed", num_ranks)
            execute(spec)
            self._undisturbed[num_ranks] = spec
        return final_checkpoint(self._undisturbed[num_ranks])


@pytest.fixture(scope="module")
def work(
    tmp_path_factory: pytest.TempPathFactory, commit_clips: Callable[[Path], str]
) -> Workplace:
    path = tmp_path_factory.mktemp("resume")
    return Workplace(path, commit_clips(path))


@pytest.fixture(autouse=True)
def environment(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "platform"))
    monkeypatch.setenv("KINO_WORKSPACE", str(work.path / "workspace"))


def wait_for_checkpoint(store: ObjectStore, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not list_checkpoints(store):
        assert process.poll() is None, "training ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_metrics(spec: StepSpec) -> str:
    deadline = time.monotonic() + 20
    while not (status := read_status(spec.uri)) or not status.metrics_url:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return status.metrics_url


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.kill()
    psutil.wait_procs(family, timeout=20)
    process.wait()


@pytest.mark.slow  # `make test` has a training that is killed twice, in test_faults.py
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_killed_and_resumed_training_ends_with_the_same_bits(
    work: Workplace, num_ranks: int
) -> None:
    spec = work.spec("killed", num_ranks)
    store = open_store(spec.uri)
    process = start_supervisor(spec)
    wait_for_checkpoint(store, process)
    values = scrape(wait_for_metrics(spec))
    kill_tree(process)
    assert values["kino_train_steps_total"] >= 20
    assert values['kino_train_loss{kind="total"}'] > 0
    saved = list_checkpoints(store)
    assert read_result(spec.uri) is None
    assert read_checkpoint(store, saved[-1]).state.step < NUM_STEPS
    execute(spec)
    log = store.get_bytes("attempts/000002/logs/rank-0.log").decode()
    assert "resumed from step" in log
    assert other_bits(final_checkpoint(spec), work.undisturbed(num_ranks)) == []


def test_a_stop_loses_no_step_and_exits_75(work: Workplace) -> None:
    spec = work.spec("stopped", 2)
    store = open_store(spec.uri)
    process = start_supervisor(spec)
    wait_for_checkpoint(store, process)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == ExitCode.PREEMPTED
    status = read_status(spec.uri)
    assert status is not None
    assert status.state == "stopped"
    saved = read_checkpoint(store, list_checkpoints(store)[-1]).state.step
    assert saved < NUM_STEPS
    assert status.reason == f"told to stop; step {saved} of {NUM_STEPS} is saved"
    execute(spec)
    assert (
        f"resumed from step {saved} " in store.get_bytes("attempts/000002/logs/rank-0.log").decode()
    )
    assert other_bits(final_checkpoint(spec), work.undisturbed(2)) == []


@contextmanager
def no_room_for_checkpoints(spec: StepSpec) -> Iterator[None]:
    """Let every save fail: a file is where the folder of checkpoints should be."""
    path = file_path(spec.uri)
    assert path is not None
    path.mkdir(parents=True)
    (path / "checkpoints").touch()
    try:
        yield
    finally:
        (path / "checkpoints").unlink()


def wait_for_step(spec: StepSpec, step: int) -> None:
    deadline = time.monotonic() + 120
    while not (status := read_status(spec.uri)) or status.progress.done < step:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_save_that_fails_ends_no_training_and_is_made_up_for(work: Workplace) -> None:
    spec = work.spec("unsaved", 1)
    with no_room_for_checkpoints(spec):
        process = start_supervisor(spec)
        wait_for_step(spec, 30)
        assert process.poll() is None
    assert process.wait(120) == ExitCode.DONE
    log = open_store(spec.uri).get_bytes("attempts/000001/logs/rank-0.log").decode()
    assert "step 20 is not saved" in log
    assert "step 21 is not saved" in log  # tried again with the next
    assert other_bits(final_checkpoint(spec), work.undisturbed(1)) == []


def test_a_stop_is_saved_as_soon_as_the_store_is_back(work: Workplace) -> None:
    spec = work.spec("stopped-in-an-outage", 2)
    with no_room_for_checkpoints(spec):
        process = start_supervisor(spec)
        wait_for_step(spec, 5)
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(4)
        assert process.poll() is None
    assert process.wait(60) == ExitCode.PREEMPTED
    saved = read_checkpoint(open_store(spec.uri), list_checkpoints(open_store(spec.uri))[-1])
    status = read_status(spec.uri)
    assert status is not None
    assert status.reason == f"told to stop; step {saved.state.step} of {NUM_STEPS} is saved"


def test_two_ranks_train_as_one_does(work: Workplace) -> None:
    one, two = work.undisturbed(1).tensors, work.undisturbed(2).tensors
    for group in ("weights", "ema"):
        for name, tensor in one[group].items():
            torch.testing.assert_close(two[group][name], tensor, atol=2e-3, rtol=1e-2)


@pytest.mark.slow
def test_one_step_of_two_ranks_has_the_gradient_of_one(work: Workplace) -> None:
    moments = []
    for num_ranks in (1, 2):
        spec = work.spec("single", num_ranks, num_steps=1, checkpoint_every_steps=1)
        execute(spec)
        moments.append(final_checkpoint(spec).tensors["optimizer"])
    # After one step the first moment is the clipped gradient times a constant.
    for name, tensor in moments[0].items():
        torch.testing.assert_close(moments[1][name], tensor, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
def test_divergence_ends_with_its_own_code_on_all_ranks(work: Workplace) -> None:
    spec = work.spec("diverged", 2, optimizer={"lr": 1e12}, grad_clip=None)
    with pytest.raises(DivergedError, match="gradient norm"):
        execute(spec)
    status = read_status(spec.uri)
    assert status is not None
    assert status.code == ExitCode.DIVERGED
