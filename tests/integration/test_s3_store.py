"""Runs and processes on a real S3 server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kinetoscope.storage.open import open_store


@pytest.mark.slow
def test_a_whole_run_in_a_bucket(
    minio: Any, mixed_videos: Path, kino: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    root = f"s3://{minio.bucket}/a team/{uuid4().hex}"
    monkeypatch.setenv("KINO_STORE_URI", f"{root.replace(' ', '%20')}/")
    kino("run", "--recipe", "smoke", "--videos", str(mixed_videos))
    told = kino.json("show", "last")
    assert told["state"] == "succeeded"
    assert told["report"] == f"{root}/runs/{told['run']}/starts/000001/report.html"
    assert told["sample"].startswith(f"{root}/steps/evaluate_dit/")
    assert len(told["quarantine"]) == 4
    assert [row["run"] for row in kino.json("ls")] == [told["run"]]
    assert "loss" in kino("logs", "last", "train_dit_1")
    assert {step["state"] for step in kino.json("status", "last")["steps"]} == {"done"}
    clip = tmp_path / "clip.mp4"
    kino("generate", "a red circle moving left", "--out", str(clip))
    assert clip.stat().st_size > 0
    # Nothing of it lies in the workspace, and all of it is found done.
    assert not (kino.workspace / "objects").exists()
    kino("run", "--recipe", "smoke", "--videos", str(mixed_videos))
    assert all(step["cached"] for step in kino.json("status", "last")["steps"])
    for row in kino.json("ls"):
        kino("rm", row["run"], "--yes")
    assert {stat.key.split("/")[0] for stat in open_store(root).list()} == {"models", "registry"}


def test_a_child_process_has_connections_of_its_own(
    minio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    store: Any = open_store(f"s3://{minio.bucket}/{uuid4().hex}")
    store.put_bytes("k", b"x" * 1000)
    ours = store._connection.client
    child = os.fork()
    if child == 0:
        good = all(store.get_bytes("k") == b"x" * 1000 for _ in range(50))
        os._exit(0 if good and store._connection.client is not ours else 1)
    assert all(store.get_bytes("k") == b"x" * 1000 for _ in range(50))
    assert os.waitpid(child, 0)[1] == 0
    assert store._connection.client is ours
