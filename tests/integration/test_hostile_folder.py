"""A folder of everything but videos: each thing is told by its name, and nothing hangs or grows."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import socket
import stat
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kinetoscope.core.errors import DataError, KinetoscopeError
from kinetoscope.core.units import MIB
from kinetoscope.data.config import CaptionsConfig, PrepareDataConfig, SynthConfig
from kinetoscope.data.prepare.prepare import prepare
from kinetoscope.data.prepare.prepared import Prepared, Source
from kinetoscope.data.sources.directory import DirectoryPlace
from kinetoscope.data.synthetic.draw import synthesize
from kinetoscope.storage.open import open_store

CONFIG = PrepareDataConfig(num_workers=1, captions=CaptionsConfig(min_matched=0))


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    synthesize(folder, SynthConfig(num_clips=8, held_out=0))
    return folder


def _prepared(videos: Path, out: Path, config: PrepareDataConfig = CONFIG) -> Prepared:
    place = DirectoryPlace(videos)
    source = Source(place, place.list())
    store = open_store(out.as_uri())
    return prepare(source, store, config, seed=0, scratch=out / "scratch")


def _lists(prepared: Prepared) -> dict[str, Any]:
    return {report["file"]: report for report in prepared.captions["lists"]}


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have a hundred letters
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def test_what_is_no_file_is_told_and_not_opened(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    for name in ("pipe.mp4", "pipe.csv"):
        os.mkfifo(videos / name)
    _socket(videos / "socket.mp4")
    (videos / "endless.mp4").symlink_to("/dev/zero")
    (videos / "endless.csv").symlink_to("/dev/zero")
    (videos / "itself.mp4").symlink_to("itself.mp4")
    (videos / "loop").symlink_to(videos)
    (videos / "loop.mp4").symlink_to(videos)
    (videos / "elsewhere").symlink_to(tmp_path / "outside")
    (videos / "folder.mp4").mkdir()
    (videos / "folder.mp4" / "inside.mp4").touch()
    prepared = _prepared(videos, tmp_path / "out")
    assert {row.path: row.detail for row in prepared.quarantine} == {
        "endless.mp4": "a link that leaves the directory",
        "folder.mp4": "a folder, not a file",
        "folder.mp4/inside.mp4": "the file is empty",
        "itself.mp4": "a broken link (RuntimeError)",
        "loop.mp4": "a link to a folder, which is not followed",
        "pipe.mp4": "not a regular file",
        "socket.mp4": "not a regular file",
    }
    assert {name: report["why_not"] for name, report in _lists(prepared).items()} == {
        "captions.csv": "",
        "elsewhere": "a link to a folder, which is not followed",
        "endless.csv": "a link that leaves the directory",
        "loop": "a link to a folder, which is not followed",
        "pipe.csv": "not a regular file",
    }
    assert prepared.num_train + prepared.num_heldout == 8


def test_a_device_is_told_and_not_opened(videos: Path, tmp_path: Path) -> None:
    try:
        os.mknod(videos / "device.mp4", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except OSError:
        pytest.skip("needs the right to make a device")
    (row,) = _prepared(videos, tmp_path / "out").quarantine
    assert row.detail == "not a regular file"


def _zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.mp4", data)
    return file.getvalue()


def _tarred(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("a.mp4")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def test_other_things_named_as_videos_are_told_for_what_they_are(
    videos: Path, tmp_path: Path
) -> None:
    noise = random.Random(0).randbytes(10_000)  # noqa: S311
    files = {
        "zip.mp4": (_zipped(noise), "a ZIP archive"),
        "bomb.mp4": (_zipped(bytes(50 * MIB)), "a ZIP archive"),
        "tar.mp4": (_tarred(noise), "a tar archive"),
        "7z.mp4": (b"7z\xbc\xaf\x27\x1c" + noise, "a 7-Zip archive"),
        "page.mp4": (b"\n<!DOCTYPE html>\n<html>404</html>", "an HTML page"),
        "error.mp4": (b'{"error": "access denied"}', "a text"),
        "text.mp4": (b"no video\n", "a text"),
        "noise.mp4": (noise, "Invalid data"),
    }
    for name, (data, _) in files.items():
        (videos / name).write_bytes(data)
    rows = {row.path: row for row in _prepared(videos, tmp_path / "out").quarantine}
    assert set(rows) == set(files)
    for name, (_, told) in files.items():
        assert told in rows[name].detail
        assert rows[name].reason == "unreadable"


def test_odd_names_come_through_or_are_told(videos: Path, tmp_path: Path) -> None:
    good = sorted(videos.glob("*.mp4"))[:4]
    names = ["a\nb.mp4", "\U0001f600\u202e.mp4", f"{'x' * 251}.mp4", "\x1b[31m -rf .mp4"]
    for path, name in zip(good, names, strict=True):
        path.rename(videos / name)
    raw = os.fsencode(str(videos))
    for suffix in (b".mp4", b".csv"):
        Path(os.fsdecode(raw + b"/bad\xff\xfe" + suffix)).touch()
    prepared = _prepared(videos, tmp_path / "out")
    assert prepared.num_train + prepared.num_heldout == 8
    (row,) = prepared.quarantine
    assert (row.path, row.detail) == (r"bad\udcff\udcfe.mp4", "its name is not valid UTF-8")
    assert _lists(prepared)[r"bad\udcff\udcfe.csv"]["why_not"] == "its name is not valid UTF-8"
    page = (tmp_path / "out/outputs/report/report.html").read_text()
    assert "\u202e" not in page
    assert "\x1b" not in page


def test_hostile_lists_cost_little_and_are_told(videos: Path, tmp_path: Path) -> None:
    with (videos / "line.csv").open("w") as file:
        file.write("path,text\n")
        for _ in range(200):
            file.write("ab," * (MIB // 3))
    (videos / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    (videos / "deeper.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    (videos / "zeros.csv").write_bytes(b"path,text\nclip-\x0000001.mp4,a\x00b\nx.mp4,\x00\n")
    (videos / "half.json").write_text('[{"path": "\\ud800.mp4", "text": "\\ud801"}]')
    (videos / "package.json").write_text('{"name": "half')
    (videos / "table.csv").write_bytes("name,title\nHut,Gr\u00f6\u00dfe\n".encode("cp1252"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    began = time.process_time()
    prepared = _prepared(videos, tmp_path / "out", PrepareDataConfig(num_workers=1))
    assert time.process_time() - began < 20
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert grown < 1600 * MIB
    lists = _lists(prepared)
    told = {name: report["why_not"] for name, report in lists.items() if report["why_not"]}
    assert told == {
        "deep.json": "it is no JSON",
        "deeper.json": "it is no JSON",
        "package.json": "it is no JSON",
        "table.csv": "it is not UTF-8 (line 2): save it as UTF-8",
    }
    (reason,) = lists["line.csv"]["passed_over"]
    assert reason == "over 1000000 characters or 10000 columns"
    assert list(lists["half.json"]["passed_over"]) == ["half a character (a lone surrogate)"]
    assert lists["captions.csv"]["num_matched"] == 8


def test_twenty_thousand_empty_files_and_copies_are_told_in_short(
    kino: Any, videos: Path, tmp_path: Path
) -> None:
    for number in range(20_000):
        (videos / f"empty-{number}.mp4").touch()
        (videos / f"note-{number}.txt").touch()
    (videos / "text.mp4").write_text("no video")
    args = ["data", "prepare", str(videos), "--out", str(tmp_path / "out")]
    args += ["--set", "prepare_data.captions.min_matched=0"]
    process = kino.start(*args)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert len(out.splitlines()) < 30
    assert len(err.splitlines()) < 10
    assert "20001 files in quarantine (zero_length: 20000, unreadable: 1):" in out
    assert "text.mp4: unreadable" in out
    assert "and 19991 more: " in out
    assert "20000 files passed over (it is empty), e.g. note-0.txt" in out
    listed = (tmp_path / "out/outputs/quarantine/quarantine.jsonl").read_text().splitlines()
    assert len(listed) == 20_001
    assert all(json.loads(line)["reason"] for line in listed)


def test_a_file_that_grows_is_refused_by_name(videos: Path, tmp_path: Path) -> None:
    place = DirectoryPlace(videos)
    listing = place.list()
    grown = sorted(videos.glob("*.mp4"))[2]
    appending = "while :; do head -c 1000000 /dev/zero >> {}; done"
    with subprocess.Popen(["sh", "-c", appending.format(grown)]) as writer:
        try:
            while grown.stat().st_size < 2 * MIB:
                time.sleep(0.01)
            store = open_store((tmp_path / "out").as_uri())
            with pytest.raises(DataError, match=f"{grown.name} in .* was changed"):
                prepare(Source(place, listing), store, CONFIG, seed=0, scratch=tmp_path / "s")
        finally:
            writer.kill()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
@pytest.mark.parametrize("name", ["closed.mp4", "closed"])
def test_what_may_not_be_read_is_told(videos: Path, tmp_path: Path, name: str) -> None:
    path = videos / name
    path.touch(0o000) if path.suffix else path.mkdir(0o000)
    try:
        if path.suffix:
            (row,) = _prepared(videos, tmp_path / "out").quarantine
            assert row.detail == "not readable for this user"
        else:
            with pytest.raises(KinetoscopeError, match=r"closed can't be read"):
                _prepared(videos, tmp_path / "out")
    finally:
        path.chmod(0o700)
