"""A finished workspace that is moved works where it is, and touches nothing elsewhere."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.minio_server import MinioServer

from kinetoscope.storage.open import open_store


@pytest.fixture
def moved(smoke: Any, tmp_path: Path) -> Iterator[Any]:
    """Yield `kino` in a copy of the finished workspace, while the original is away."""
    copy = tmp_path / "moved" / "there"
    shutil.copytree(smoke.workspace, copy, symlinks=True)
    away = smoke.workspace.with_name("away")
    smoke.workspace.rename(away)
    before = _digest(away)
    try:
        yield type(smoke)(copy)
        assert not smoke.workspace.exists(), "something was written where the workspace was"
        assert _digest(away) == before
    finally:
        shutil.rmtree(smoke.workspace, ignore_errors=True)
        away.rename(smoke.workspace)


def test_it_shows_generates_resumes_serves_a_new_run_and_is_removed(
    moved: Any, mixed_videos: Path, tmp_path: Path
) -> None:
    shown = moved.json("show", "last")
    assert shown["state"] == "succeeded"
    assert shown["model"]["aliases"]
    for name in ("sample", "clips", "report"):
        assert Path(shown[name]).is_relative_to(moved.workspace)
    model = f"{shown['model']['name']}/{shown['model']['version']}"
    clip = tmp_path / "clip.mp4"
    moved("generate", "a red circle", "--model", model, "--out", str(clip))
    assert clip.stat().st_size > 0
    assert moved.json("resume", "last")["state"] == "succeeded"

    videos = tmp_path / "renamed videos"
    shutil.copytree(mixed_videos, videos)
    again = moved.json("run", "--recipe", "smoke", "--videos", str(videos))
    assert all(step["cached"] for step in again["steps"])
    assert again["model"]["version"] == shown["model"]["version"]
    for run in (again["run"], shown["run"]):
        moved("rm", run, "--yes")
    assert moved.json("ls") == []
    assert list((moved.workspace / "objects" / "steps").rglob("result.json")) == []
    moved("generate", "a red circle", "--model", model, "--out", str(clip))


def test_it_works_from_a_bucket(
    smoke: Any,
    minio: MinioServer,
    mixed_videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kino = type(smoke)(tmp_path / "elsewhere")
    shutil.copytree(smoke.workspace, kino.workspace, ignore=shutil.ignore_patterns("objects"))
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINO_STORE_URI", f"s3://{minio.bucket}/moved here")
    bucket = open_store(f"s3://{minio.bucket}/moved here")
    objects = smoke.workspace / "objects"
    for path in objects.rglob("*"):
        if path.is_file():
            bucket.put_file(path.relative_to(objects).as_posix(), path)
    shown = kino.json("show", "last")
    assert shown["state"] == "succeeded"
    assert shown["report"].startswith(f"s3://{minio.bucket}/moved here/runs/")
    again = kino.json("run", "--recipe", "smoke", "--videos", str(mixed_videos))
    assert all(step["cached"] for step in again["steps"])
    assert kino.json("resume", "last")["state"] == "succeeded"
    clip = tmp_path / "clip.mp4"
    kino("generate", "a red circle", "--out", str(clip))
    assert clip.stat().st_size > 0
    for run in (again["run"], shown["run"]):
        kino("rm", run, "--yes")
    assert bucket.list("steps") == []
    assert bucket.list("models")


def test_a_run_removed_in_a_copy_stays_in_the_original(smoke: Any, tmp_path: Path) -> None:
    copy = type(smoke)(tmp_path / "copy")
    shutil.copytree(smoke.workspace, copy.workspace)
    before = _digest(smoke.workspace)
    copy("rm", copy.json("show", "last")["run"], "--yes")
    assert _digest(smoke.workspace) == before


def _digest(folder: Path) -> str:
    sha = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        sha.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            sha.update(path.read_bytes())
    return sha.hexdigest()
