from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from kinetoscope.steps.nodes.pod_log import PodLog


class Reader:
    """Reads a pipe to its end, beside the test."""

    def __init__(self) -> None:
        self._reads, self.writes = os.pipe()
        self.data = bytearray()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with open(self._reads, "rb", buffering=0) as pipe:  # noqa: PTH123 - it is no path
            while chunk := pipe.read(1 << 16):
                self.data += chunk

    def all(self) -> bytes:
        os.close(self.writes)
        self._thread.join()
        return bytes(self.data)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "rank-0.log"
    path.touch()
    return path


def add(log: Path, text: bytes) -> None:
    with log.open("ab") as file:
        file.write(text)


def wait_for(reader: Reader, text: bytes) -> None:
    deadline = time.monotonic() + 10
    while bytes(reader.data) != text:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_lines_come_as_they_are_written_and_none_in_pieces(log: Path) -> None:
    reader = Reader()
    pod_log = PodLog(log, reader.writes)
    add(log, b"one\ntw")
    wait_for(reader, b"one\n")
    add(log, b"o\n")
    wait_for(reader, b"one\ntwo\n")
    add(log, b"no end")
    pod_log.close(b"ended\n")
    assert reader.all() == b"one\ntwo\nno end\nended\n"


def test_what_is_written_just_before_the_end_is_not_lost(log: Path) -> None:
    for _ in range(20):
        log.write_bytes(b"")
        reader = Reader()
        pod_log = PodLog(log, reader.writes)
        add(log, b"x" * 300_000 + b"\nlast\n")
        pod_log.close()
        assert reader.all() == b"x" * 300_000 + b"\nlast\n"


def test_a_big_log_is_read_once(log: Path) -> None:
    log.write_bytes(b"0123456789abcde\n" * (1 << 22))  # 64 MiB
    reader = Reader()
    before = _read_bytes()
    pod_log = PodLog(log, reader.writes)
    wait = time.monotonic() + 60
    while len(reader.data) < 1 << 26:
        assert time.monotonic() < wait
        time.sleep(0.1)
    time.sleep(1)
    pod_log.close()
    assert len(reader.all()) == 1 << 26
    assert _read_bytes() - before < 2.2 * (1 << 26)  # by the log's reader, and by the pipe's


def test_a_pipe_that_nobody_reads_holds_up_the_end_for_seconds_alone(log: Path) -> None:
    reads, writes = os.pipe()
    log.write_bytes(b"line\n" * 1_000_000)
    pod_log = PodLog(log, writes)
    began = time.monotonic()
    pod_log.close(b"ended\n")
    assert time.monotonic() - began < 15
    os.close(reads)


def test_a_pipe_that_is_closed_on_the_other_side_ends_it(log: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    pod_log = PodLog(log, writes)
    add(log, b"line\n")
    began = time.monotonic()
    pod_log.close()
    assert time.monotonic() - began < 5
    os.close(writes)


def test_a_slow_reader_gets_all(log: Path) -> None:
    reads, writes = os.pipe()
    log.write_bytes(b"line\n" * 60_000)
    pod_log = PodLog(log, writes)
    got = bytearray()

    def read_slowly() -> None:
        while len(got) < 300_000 + 6:
            got.extend(os.read(reads, 1 << 15))
            time.sleep(0.3)

    reader = threading.Thread(target=read_slowly, daemon=True)
    reader.start()
    pod_log.close(b"ended\n")
    reader.join(30)
    assert bytes(got) == b"line\n" * 60_000 + b"ended\n"
    os.close(reads)
    os.close(writes)


def _read_bytes() -> int:
    rows = (row.split(": ") for row in Path("/proc/self/io").read_text().splitlines())
    return next(int(value) for name, value in rows if name == "rchar")
