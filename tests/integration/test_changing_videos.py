"""Videos that change under a run: in a directory and in a bucket, while it trains and before."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from integration.minio_server import MinioServer
from tiny.models import video_vae
from tiny.steps import ranks, start_supervisor, step_spec

from kinetoscope.artifacts.clips import open_clips
from kinetoscope.core.errors import ExitCode, NotFoundError
from kinetoscope.core.settings import Workspace
from kinetoscope.runs.find import find_run
from kinetoscope.runs.view import run_status, step_results
from kinetoscope.steps.contract import StepSpec, VideosInput
from kinetoscope.steps.results import read_result, read_status
from kinetoscope.storage.open import open_store


@dataclass(frozen=True)
class Place:
    """Videos somewhere, as a user changes them."""

    name: str
    write: Callable[[str, bytes], None]
    read: Callable[[str], bytes]
    delete: Callable[[str], None]


def in_directory(folder: Path) -> Place:
    def write(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)

    return Place(
        str(folder),
        write,
        lambda name: (folder / name).read_bytes(),
        lambda name: (folder / name).unlink(),
    )


def in_bucket(folder: Path, minio: MinioServer, patch: pytest.MonkeyPatch) -> Place:
    for name, value in minio.environment().items():
        patch.setenv(name, value)
    store = open_store(f"s3://{minio.bucket}/{uuid4().hex}")
    for path in folder.iterdir():
        store.put_file(path.name, path)
    return Place(store.uri, store.put_bytes, store.get_bytes, store.delete)


@pytest.fixture(params=["directory", "bucket"])
def training(
    request: pytest.FixtureRequest,
    commit_clips: Callable[[Path], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[StepSpec, Place]:
    """Return a step that trains on prepared clips, and the place of their videos."""
    clips = commit_clips(tmp_path)
    place = in_directory(tmp_path / "videos")
    if request.param == "bucket":
        place = in_bucket(tmp_path / "videos", request.getfixturevalue("minio"), monkeypatch)
    monkeypatch.setenv("KINO_WORKSPACE", str(tmp_path / "workspace"))
    config = {
        "model": video_vae().spatial.to_json(),
        "loss": {"perceptual_weight": 0},
        "plan": {"num_frames": 1, "height": 32, "width": 32, "batch_size": 3},
        "loop": {"num_steps": 6, "micro_batches_per_step": 2, "optimizer": {"lr": 1e-3}},
    }
    spec = step_spec(
        "train_spatial_vae",
        "kinetoscope.training.vae.train_spatial_vae",
        (tmp_path / "objects").as_uri(),
        config,
        inputs={"clips": clips},
        videos=VideosInput(place=place.name),
        runtime=ranks(2),
    )
    return spec, place


@pytest.mark.parametrize("what", ["changed", pytest.param("gone", marks=pytest.mark.slow)])
def test_training_refuses_a_changed_video_by_name_and_takes_the_original_back(
    training: tuple[StepSpec, Place], what: str, tmp_path: Path
) -> None:
    spec, place = training
    name, other = sorted(path.name for path in (tmp_path / "videos").glob("*.mp4"))[3:5]
    original = place.read(name)
    if what == "gone":
        place.delete(name)
    else:
        place.write(name, place.read(other))
    assert start_supervisor(spec).wait() == ExitCode.USER_ERROR
    status = read_status(spec.uri)
    assert status is not None
    told = "is gone since" if what == "gone" else "is not what it was when"
    assert f"the video {name} in {place.name} {told} it was prepared" in status.reason
    assert "put the original back" in status.hint
    assert read_result(spec.uri) is None
    place.write(name, original)
    assert start_supervisor(spec).wait() == ExitCode.DONE


def test_a_bucket_s_videos_are_fetched_once_whatever_the_number_of_ranks_and_starts(
    commit_clips: Callable[[Path], str],
    minio: MinioServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = commit_clips(tmp_path)
    place = in_bucket(tmp_path / "videos", minio, monkeypatch)
    monkeypatch.setenv("KINO_WORKSPACE", str(tmp_path / "workspace"))
    result = read_result(step)
    assert result is not None
    for _ in range(2):
        table = open_clips(result, place.name)
        with table.source_video(0).open() as file:
            assert file.read() == (tmp_path / "videos" / table.video[0]).read_bytes()
        with suppress(NotFoundError):
            place.delete(table.video[0])


def _clips(kino: Any) -> str:
    run = find_run(_store_uri(kino), "last")
    return step_results(run)["prepare_data"].artifact("clips").digest


def _store_uri(kino: Any) -> str:
    return Workspace(kino.workspace).store_uri


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("where", ["directory", "bucket"])
def test_a_video_replaced_in_mid_run_is_refused_and_the_next_run_is_honest(
    request: pytest.FixtureRequest,
    synthetic_videos: Path,
    kino: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    shutil.copytree(synthetic_videos, tmp_path / "videos")
    place = in_directory(tmp_path / "videos")
    if where == "bucket":
        minio = request.getfixturevalue("minio")
        place = in_bucket(tmp_path / "videos", minio, monkeypatch)
        monkeypatch.setenv("KINO_STORE_URI", f"s3://{minio.bucket}/store-{uuid4().hex}")
    names = sorted(path.name for path in synthetic_videos.glob("*.mp4"))
    originals = {name: place.read(name) for name in names}
    process = kino.start("run", "--recipe", "smoke", "--videos", place.name)
    deadline = time.monotonic() + 600
    while not _prepared(kino):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for name in names:  # whichever the first batch takes
        place.write(name, originals[names[0] if name != names[0] else names[1]])
    _, told = process.communicate(timeout=600)
    assert process.returncode == ExitCode.USER_ERROR, told
    assert "step train_spatial_vae" in told
    assert f".mp4 in {place.name} is not what it was when it was prepared" in told
    # A new run takes what is there now for what it is.
    clips = _clips(kino)
    place.write(names[0], originals[names[0]])
    for name in names[1:]:
        place.write(name, originals[name])
    if where == "directory":
        assert kino.json("resume", "last")["state"] == "succeeded"
    else:
        again = kino.json("run", "--recipe", "smoke", "--videos", place.name)
        assert again["state"] == "succeeded"
    assert _clips(kino) == clips
    plain = type(kino)(tmp_path / "plain")
    monkeypatch.delenv("KINO_STORE_URI", raising=False)
    out = plain.json(
        "data", "prepare", str(synthetic_videos), "--recipe", "smoke", "--out", "prepared"
    )
    assert out["num_videos"] == len(names)


def _prepared(kino: Any) -> bool:
    try:
        run = find_run(_store_uri(kino), "last")
        rows = {row["name"]: row["state"] for row in run_status(run)["steps"]}
    except Exception:
        return False
    return bool(rows["prepare_data"] == "done")


def test_an_upload_that_is_killed_again_and_again_sends_nothing_twice(
    kino: Any, minio: MinioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "many"
    folder.mkdir()
    rng = random.Random(0)  # noqa: S311
    for number in range(300):
        (folder / f"{number}.mp4").write_bytes(rng.randbytes(20_000))
    for number in range(2):
        (folder / f"large-{number}.mp4").write_bytes(rng.randbytes(40_000_000 + number))
    root = f"s3://{minio.bucket}/{uuid4().hex}"
    seen: dict[str, str] = {}
    while True:
        process = kino.start("data", "upload", str(folder), "--to", root, "--name", "set")
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.8 + rng.random())
        process.kill()
        process.communicate()
        objects = {stat.key: stat for stat in open_store(root).list("objects")}
        for stat in objects.values():
            assert stat.size_bytes in (20_000, 40_000_000, 40_000_001)
            # A second write would show by another time of change.
            assert seen.setdefault(stat.key, _written(minio, root, stat.key)) == _written(
                minio, root, stat.key
            )
        if open_store(root).list("manifests"):
            break
    assert len(objects) == 302
    again = kino.json("data", "upload", str(folder), "--to", root, "--name", "set")
    assert (again["num_files"], again["num_sent"]) == (302, 0)


def _written(minio: MinioServer, root: str, key: str) -> str:
    store: Any = open_store(root)
    return str(store._connection.head(store._name(key))["Last-Modified"])
