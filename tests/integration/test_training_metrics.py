"""What a training of real ranks serves while it runs."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tiny.models import SPATIAL_VAE
from tiny.steps import ranks, start_supervisor, step_spec

from kinetoscope.checkpoints.retention import list_checkpoints
from kinetoscope.core.errors import ExitCode, KinetoscopeError
from kinetoscope.steps.contract import STEPS, StepSpec
from kinetoscope.steps.results import read_status
from kinetoscope.storage.keys import split_uri
from kinetoscope.storage.open import open_store
from kinetoscope.telemetry.scrape import scrape

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "model": SPATIAL_VAE.to_json(),
    "loss": {"l1_weight": 0.2, "mse_weight": 1, "perceptual_weight": 0, "reduction": "mean"},
    "plan": {"num_frames": 1, "height": 32, "width": 32, "batch_size": 2},
}
LOOP = {
    "num_steps": 100_000,
    "micro_batches_per_step": 2,
    "optimizer": {"lr": 1e-3, "eps": 1e-4},
    "checkpoint_every_steps": 3,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, commit_clips: Callable[[Path], str]) -> str:
    return commit_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """A port that metrics are told to be served on, as in pods."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    monkeypatch.setenv("KINO_METRICS_PORT", str(number))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "platform"))
    return number


def step(path: Path, clips: str, **loop: object) -> StepSpec:
    return step_spec(
        "train_spatial_vae",
        "kinetoscope.training.vae.train_spatial_vae",
        split_uri(clips, STEPS)[0],
        {**CONFIG, "loop": {**LOOP, **loop}},
        inputs={"clips": clips},
        fingerprint=path.name,
        runtime=ranks(2),
    )


@contextmanager
def running(spec: StepSpec) -> Iterator[subprocess.Popen[bytes]]:
    """The step under its supervisor; whatever still runs at the end is killed."""
    process = start_supervisor(spec)
    try:
        yield process
    finally:
        if process.poll() is None:
            family = [*psutil.Process(process.pid).children(recursive=True)]
            process.kill()
            for member in family:
                member.kill()
            process.wait()


def scrape_until(
    port: int, process: subprocess.Popen[bytes], wanted: Callable[[dict[str, float]], bool]
) -> dict[str, float]:
    """Look every half second, as Prometheus does every few."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, "training ended before it showed what is wanted"
        try:
            values = scrape(f"http://127.0.0.1:{port}/metrics")
        except KinetoscopeError:  # not up yet
            values = {}
        if wanted(values):
            return values
        time.sleep(0.5)
    raise AssertionError(f"not seen in time; last: {values}")


def told_by_status(spec: StepSpec, process: subprocess.Popen[bytes]) -> str:
    """Return the metrics URL of the step's status as soon as there is one."""
    while process.poll() is None:
        status = read_status(spec.uri)
        if status is not None and status.metrics_url:
            return status.metrics_url
        time.sleep(0.2)
    raise AssertionError("training ended before its status had a metrics URL")


def test_a_training_of_two_ranks_tells_how_it_fares(tmp_path: Path, clips: str, port: int) -> None:
    spec = step(tmp_path, clips)
    with running(spec) as process:
        values = scrape_until(port, process, lambda values: "kino_checkpoint_bytes" in values)
        # The supervisor tells it with its next beat.
        url = told_by_status(spec, process)
    assert url == f"http://127.0.0.1:{port}/metrics"
    store = open_store(spec.uri)
    saved = sum(file.size_bytes for file in store.list(list_checkpoints(store)[-1]))
    assert values["kino_checkpoint_bytes"] == pytest.approx(saved, rel=0.01)
    assert 1 < values["kino_train_rank_imbalance_ratio"] < 2  # 2: one of them did nothing
    assert 0 < values["kino_train_goodput_ratio"] < 1
    assert values["kino_train_steps_total"] >= 3
    assert not [name for name in values if name.startswith("kino_gpu_memory_bytes")]


def test_a_diverged_training_is_seen_before_it_ends(tmp_path: Path, clips: str, port: int) -> None:
    spec = step(tmp_path, clips, optimizer={"lr": 1e12}, grad_clip=None)
    with running(spec) as process:
        values = scrape_until(
            port, process, lambda values: values.get("kino_train_nonfinite_total", 0) > 0
        )
        assert process.wait(60) == ExitCode.DIVERGED
    assert values["kino_train_nonfinite_total"] == 1
