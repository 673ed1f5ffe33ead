"""What happens to a store: it is away, or answers slowly."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from integration.minio_server import MinioServer
from integration.s3_proxy import LOST, Exchange, Proxy, nothing
from tiny.faults.processes import stopped
from tiny.faults.stage import Stage, shape
from tiny.faults.verdict import Verdict, unless, verdict
from tiny.job import Job

from kinetoscope.steps.contract import STEPS, VideosInput
from kinetoscope.storage.open import open_store

AWAY_SECONDS = 120.0
SLOW_SECONDS = 20.0


def store_away(stage: Stage) -> Verdict:
    """The store is away in mid-training: nothing ends, and what could not be saved is made up for.

    A training that has come to its last step meanwhile waits for the store.
    """
    with _bucket(stage) as (server, _), _job(stage, server, "away") as job:
        job.start()
        job.wait_for_checkpoints()
        server.kill()
        time.sleep(AWAY_SECONDS)
        ended = job.has_ended()
        server.start()
        attempts = job.state.generation
        return verdict(
            unless(not ended, "it ended while the store was away"),
            stage.end(job, job.wait(300)),
            unless(attempts == 1, f"{attempts} attempts, not one"),
        )


def store_away_at_the_commit(stage: Stage) -> Verdict:
    """The store goes away when the last step is saved, and the result is not."""
    with _bucket(stage) as (server, proxy), _job(stage, server, "away-late") as job:
        proxy.before = _Outage("list-type", "step-00000060")
        job.start()
        codes = job.wait(400)
        return verdict(
            unless(proxy.before.began > 0, "the store was not away"), stage.end(job, codes)
        )


class _Outage:
    """Answers nothing for a while from the first request on that has such words."""

    def __init__(self, *words: str) -> None:
        self.began = 0.0
        self._words = words

    def __call__(self, exchange: Exchange) -> str | None:
        if not self.began and exchange.is_("GET", *self._words):
            self.began = time.monotonic()
        away = self.began and time.monotonic() - self.began < AWAY_SECONDS
        return LOST if away else None


def sigterm_store_away(stage: Stage) -> Verdict:
    """It is told to stop while the store is away, which comes back within the grace."""
    with _bucket(stage) as (server, _), _job(stage, server, "stop-away", steps=3000) as job:
        job.start()
        job.wait_for_checkpoints()
        server.kill()
        job.send(signal.SIGTERM)
        time.sleep(AWAY_SECONDS)
        ended = job.has_ended()
        server.start()
        told = stopped(job, seconds=300)
        return verdict(unless(not ended, "it ended while the store was away"), told)


def sigterm_slow_store(stage: Stage) -> Verdict:
    """It is told to stop while every answer of the store takes long, but the grace is longer."""
    with _bucket(stage) as (server, proxy), _job(stage, server, "stop-slow", steps=3000) as job:
        job.start()
        job.wait_for_checkpoints()
        proxy.before = lambda _: time.sleep(SLOW_SECONDS)
        job.send(signal.SIGTERM)
        while not job.has_ended():
            time.sleep(0.5)
        proxy.before = nothing
        return verdict(stopped(job, seconds=420))


@contextmanager
def _bucket(stage: Stage) -> Iterator[tuple[MinioServer, Proxy]]:
    """Serve all that the stage has from a bucket, through a proxy that may spoil it."""
    program = os.environ.get("KINO_TEST_MINIO") or shutil.which("minio")
    if program is None:
        pytest.skip("needs a MinIO server: the program `minio` on PATH or in KINO_TEST_MINIO")
    server = MinioServer(program, Path(mkdtemp(dir=stage.folder, prefix="minio-")))
    server.start()
    proxy = Proxy(server.port)
    settings = server.environment(proxy.endpoint) | {"KINO_S3_RETRY_SECONDS": "5"}
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield server, proxy
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.kill()
        proxy.close()


@contextmanager
def _job(stage: Stage, server: MinioServer, name: str, steps: int = 60) -> Iterator[Job]:
    root_uri = f"s3://{server.bucket}/objects"
    local = stage.folder / "objects"
    store = open_store(root_uri)
    for path in (local / STEPS / "prepare_data").rglob("*"):
        if path.is_file():
            store.put_file(str(path.relative_to(local)), path)
    changes: dict[str, Any] = {
        "root_uri": root_uri,
        "videos": VideosInput(place=str(stage.folder / "videos")),
    }
    spec = stage.spec(name, shape(1, grace_seconds=400), num_steps=steps)
    job = Job(spec.model_copy(update=changes))
    try:
        yield job
    finally:
        job.close()
