"""A supervisor whose store goes away and comes back."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from integration.minio_server import MinioServer
from tiny.steps import place_worker, start_supervisor, step_spec

from kinetoscope.core.errors import ExitCode, StorageError
from kinetoscope.steps.contract import RuntimeConfig, StepSpec
from kinetoscope.steps.results import read_result, read_status
from kinetoscope.storage.open import open_store

WORKER = """
import sys, time
from pathlib import Path
from kinetoscope.core.errors import PreemptedError
from kinetoscope.steps.worker import Outputs, run_worker

def main(ctx):
    mark = Path(ctx.config["mark"])
    for part in range(ctx.config["parts"]):
        if ctx.stop_requested:
            mark.write_text("told to stop")
            raise PreemptedError("saved")
        time.sleep(0.2)
        ctx.progress(part + 1, ctx.config["parts"], "parts")
        mark.write_text(str(part))
    while not mark.with_name("back").exists():
        time.sleep(0.1)
    ctx.store.put_bytes("outputs/thing/a.txt", b"x")
    mark.write_text("made")
    while not mark.with_name("commit").exists():
        time.sleep(0.1)
    return Outputs(artifacts={"thing": "outputs/thing"})

if __name__ == "__main__":
    run_worker(main)
"""


@pytest.fixture
def server(
    new_minio: Callable[..., MinioServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MinioServer:
    server = new_minio()
    server.start()
    place_worker(tmp_path, monkeypatch, "quiet_worker", WORKER)
    environment = {
        **server.environment(),
        "KINO_S3_RETRY_SECONDS": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return server


def make_spec(server: MinioServer, tmp_path: Path, parts: int) -> StepSpec:
    return step_spec(
        "quiet",
        "quiet_worker",
        f"s3://{server.bucket}/store",
        {"mark": str(tmp_path / "mark"), "parts": parts},
        runtime=RuntimeConfig(max_restarts=0, grace_seconds=60),
    )


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_outage_kills_nobody(server: MinioServer, tmp_path: Path) -> None:
    spec = make_spec(server, tmp_path, parts=10)
    process = start_supervisor(spec)
    wait_until((tmp_path / "mark").exists)
    server.kill()
    time.sleep(8)  # several heartbeats
    assert process.poll() is None
    server.start()
    (tmp_path / "back").touch()
    (tmp_path / "commit").touch()
    assert process.wait(60) == ExitCode.DONE
    assert read_result(spec.uri) is not None
    status = read_status(spec.uri)
    assert status is not None
    assert (status.state, status.generation) == ("done", 1)


def test_a_result_waits_for_the_store(server: MinioServer, tmp_path: Path) -> None:
    (tmp_path / "back").touch()
    process = start_supervisor(make_spec(server, tmp_path, parts=1))
    mark = tmp_path / "mark"
    wait_until(lambda: mark.exists() and mark.read_text() == "made")
    server.kill()
    (tmp_path / "commit").touch()
    time.sleep(8)  # several times as long as the store's own retries
    assert process.poll() is None
    server.start()
    assert process.wait(60) == ExitCode.DONE


def test_a_signal_reaches_the_ranks_while_the_store_is_away(
    server: MinioServer, tmp_path: Path
) -> None:
    spec = make_spec(server, tmp_path, parts=10_000)
    process = start_supervisor(spec)
    mark = tmp_path / "mark"
    wait_until(mark.exists)
    server.kill()
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: mark.read_text() == "told to stop", seconds=3)
    server.start()
    assert process.wait(90) == ExitCode.PREEMPTED
    status = read_status(spec.uri)
    assert status is not None
    assert (status.state, status.reason) == ("stopped", "saved")


@pytest.mark.slow
def test_a_store_that_is_away_says_nothing_of_the_launcher(
    server: MinioServer, tmp_path: Path
) -> None:
    spec = make_spec(server, tmp_path, parts=10_000)
    spec = spec.model_copy(update={"launcher_key": "launcher", "orphan_minutes": 0.1})
    store, is_over = open_store(spec.root_uri), threading.Event()

    def launcher() -> None:
        beat = 0
        while not is_over.wait(0.5):
            with suppress(StorageError):
                store.put_bytes("launcher", b"%d" % (beat := beat + 1))

    thread = threading.Thread(target=launcher)
    thread.start()
    process = start_supervisor(spec)
    try:
        wait_until((tmp_path / "mark").exists)
        server.kill()
        time.sleep(15)  # more than twice what the launcher has
        server.start()
        time.sleep(8)
        assert process.poll() is None
        is_over.set()
        assert process.wait(60) == ExitCode.WITHDRAWN
    finally:
        is_over.set()
        thread.join()
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_store_that_stays_away_leaves_the_exit_code(server: MinioServer, tmp_path: Path) -> None:
    spec = make_spec(server, tmp_path, parts=10_000)
    process = start_supervisor(spec)
    wait_until((tmp_path / "mark").exists)
    server.kill()
    process.send_signal(signal.SIGTERM)
    assert process.wait(200) == ExitCode.PREEMPTED
    server.start()
    assert open_store(spec.uri).list("attempts")
