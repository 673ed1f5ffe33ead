"""Preparations that are killed, doubled or run on bad ground end as undisturbed ones do."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny.memory_store import MemoryStore
from tiny.small_disk import fill, small_disk

from kinetoscope.config.load import load_config
from kinetoscope.core.errors import ExitCode, StorageError
from kinetoscope.data.config import SynthConfig
from kinetoscope.data.prepare.prepare import prepare
from kinetoscope.data.prepare.prepared import Hooks, Source
from kinetoscope.data.sources.directory import DirectoryPlace
from kinetoscope.data.synthetic.draw import synthesize
from kinetoscope.runs.checks import stage_buckets
from kinetoscope.storage.open import open_store

NUM_VIDEOS = 16
OUTPUTS = (
    "clips/clips.parquet",
    "quarantine/quarantine.jsonl",
    "report/report.html",
    "videos/videos.parquet",
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen clips, and files that can't be used."""
    folder = tmp_path_factory.mktemp("killed") / "videos"
    synthesize(folder, SynthConfig(num_clips=NUM_VIDEOS, num_frames=40, seed=7))
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def undisturbed(videos: Path) -> dict[str, bytes]:
    """Return what one call makes of them that nothing disturbs."""
    store = MemoryStore("memory://undisturbed")
    _prepare(videos, store, videos.parent / "scratch")
    return {name: store.get_bytes(f"outputs/{name}") for name in OUTPUTS}


def _prepare(videos: Path, store: Any, scratch: Path) -> None:
    place = DirectoryPlace(videos)
    config = load_config("tiny", ["seed=0", "prepare_data.num_workers=1"]).config
    # The page of the verb shows the recipe's buckets.
    hooks = Hooks(buckets=partial(stage_buckets, config))
    source = Source(place, place.list())
    prepare(source, store, config.prepare_data, seed=0, scratch=scratch, hooks=hooks)


@pytest.fixture
def start(kino: Any, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return how to start ``kino data prepare`` in a session of its own, into ``out``."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))

    def begin(num_workers: int, folder: Path = videos, out: Path = tmp_path / "out") -> Any:
        args = ["data", "prepare", str(folder), "--out", str(out)]
        args += ["--set", f"prepare_data.num_workers={num_workers}", "--set", "seed=0"]
        return kino.start(*args, start_new_session=True)

    return begin


def _outputs(out: Path) -> dict[str, bytes]:
    return {name: (out / "outputs" / name).read_bytes() for name in OUTPUTS}


def _parts(out: Path) -> dict[str, tuple[int, int]]:
    """Return the kept verdicts; one that is written again is another file."""
    files = [path for path in out.glob("parts/*.json") if path.is_file()]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def _in_session(leader: int) -> Iterator[int]:
    """Yield the processes of a session that still do something."""
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and os.getsid(process.pid) == leader:
                yield process.pid
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue


def _wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def _finish(process: Any, code: int = 0) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    return str(err)


def _kill_at(process: Any, reached: Callable[[], bool], delay: float) -> None:
    """Kill a process alone; those that it started must follow."""
    _wait_until(lambda: process.poll() is not None or reached())
    time.sleep(delay)
    process.kill()
    process.communicate()
    _wait_until(lambda: not list(_in_session(process.pid)), 15)


def _has_reached(out: Path, moment: str, num_kept: int) -> bool:
    if moment == "writing":
        return (out / "outputs/quarantine").exists()
    return moment == "any" or len(_parts(out)) >= num_kept


@pytest.mark.parametrize(
    ("num_workers", "num_kills"),
    [
        (1, 1),
        (4, 2),
        pytest.param(1, 40, marks=pytest.mark.slow),
        pytest.param(4, 40, marks=pytest.mark.slow),
    ],
)
def test_a_preparation_killed_again_and_again_does_nothing_twice_and_ends_the_same(
    start: Any, undisturbed: dict[str, bytes], tmp_path: Path, num_workers: int, num_kills: int
) -> None:
    out = tmp_path / "out"
    chance = random.Random(num_kills + num_workers)  # noqa: S311
    kept: dict[str, tuple[int, int]] = {}
    for number in range(num_kills):
        # Some when so many verdicts are kept, some at any time, and some while results are written.
        more = len(kept) + chance.randrange(1 + 2 * NUM_VIDEOS // num_kills)
        moment = chance.choice(["kept", "kept", "any", "writing"]) if number else "kept"
        reached = partial(_has_reached, out, moment, more)
        delay = chance.uniform(0, 4) if chance.random() < 0.2 else chance.uniform(0, 0.05)
        _kill_at(start(num_workers), reached, delay)
        now = _parts(out)
        assert {name: now[name] for name in kept} == kept, "a kept verdict was made again"
        kept = now
    unfinished = list(out.glob("parts/.partial-*"))
    assert len(unfinished) <= num_kills
    for path in unfinished:
        os.utime(path, (0, 0))
    _finish(start(num_workers))
    assert _outputs(out) == undisturbed
    now = _parts(out)
    assert {name: now[name] for name in kept} == kept
    assert len(now) == NUM_VIDEOS + 2
    left = [*out.glob(".scratch*"), *out.glob("parts/.partial-*"), *(tmp_path / "tmp").iterdir()]
    assert left == []


def test_two_at_once_and_one_that_is_killed_end_alike(
    start: Any, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first, second, third = start(2), start(1), start(1)
    _kill_at(third, lambda: bool(_parts(out)), 0.02)
    _finish(first)
    _finish(second)
    assert _outputs(out) == undisturbed


def test_damaged_verdicts_are_made_again_and_told_in_short(
    videos: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "out"
    store = open_store(out.as_uri())
    _prepare(videos, store, tmp_path / "scratch")
    paths = sorted(out.glob("parts/*.json"))
    paths[0].write_bytes(paths[0].read_bytes()[:100])
    paths[1].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes().replace(b'"reason"', b'"reasom"'))
    paths[3].write_text('{"reason": null}')
    paths[4].write_bytes(bytes(4096))
    paths[5].unlink()
    good = {path.name: _parts(out)[path.name] for path in paths[6:]}
    _prepare(videos, store, tmp_path / "scratch")
    assert _outputs(out) == undisturbed
    assert {name: _parts(out)[name] for name in good} == good
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("analysing a video again: ")
    assert told[1] == "5 damaged notes of earlier calls were made again"


@pytest.mark.slow
def test_a_folder_that_is_being_copied_is_refused_by_name_or_taken_as_it_is(
    start: Any, videos: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "copied"
    folder.mkdir()

    def copy() -> None:
        for path in sorted(videos.iterdir(), reverse=True):
            data = path.read_bytes()
            with (folder / path.name).open("wb", buffering=0) as file:
                for start_at in range(0, len(data), 1000):
                    file.write(data[start_at : start_at + 1000])
                    time.sleep(0.03)

    copying = threading.Thread(target=copy)
    copying.start()
    while copying.is_alive():
        process = start(2, folder, tmp_path / "early")
        _, err = process.communicate(timeout=300)
        assert process.returncode in (0, ExitCode.USER_ERROR), err
        assert "Traceback" not in err
    _finish(start(2, folder, tmp_path / "early"))
    assert _outputs(tmp_path / "early") == undisturbed


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_next_call_goes_on(
    start: Any, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        process = start(2, out=disk / "out")
        _wait_until(lambda: process.poll() is not None or len(_parts(disk / "out")) > 3)
        fill(disk)
        _, err = process.communicate(timeout=300)
        assert process.returncode not in (0, None), err
        assert "Traceback" not in err
        kept = _parts(disk / "out")
        (disk / "ballast").unlink()
        _finish(start(2, out=disk / "out"))
        assert _outputs(disk / "out") == undisturbed
        assert {name: _parts(disk / "out")[name] for name in kept} == kept


class ShakyStore(MemoryStore):
    """A slow store that does not take every third verdict."""

    num_asked = 0

    def put_bytes(self, key: str, data: bytes) -> None:
        self.num_asked += key.startswith("parts/")
        time.sleep(0.01)
        if key.startswith("parts/") and self.num_asked % 3 == 0:
            raise StorageError(f"{key}: the store does not answer")
        super().put_bytes(key, data)


def test_a_store_that_fails_ends_the_call_and_the_next_one_goes_on(
    videos: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    store = ShakyStore("memory://shaky")
    num_failed = 0
    while True:
        kept = {stat.key for stat in store.list("parts")}
        try:
            _prepare(videos, store, tmp_path / "scratch")
            break
        except StorageError:
            num_failed += 1
            assert {stat.key for stat in store.list("parts")} > kept
    assert 5 < num_failed < 15
    assert {name: store.get_bytes(f"outputs/{name}") for name in OUTPUTS} == undisturbed
