"""A rank that the kernel kills at its memory limit, in a cgroup as a pod's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from tiny.pods import end_all
from tiny.steps import place_worker, step_spec

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.contract import RuntimeConfig, write_spec
from kinetoscope.steps.results import step_state

LIMIT_BYTES = 512 << 20
WORKER = """
import subprocess, sys, time
from kinetoscope.steps.worker import run_worker

TAKE_ALL = "a = []\\nwhile True: a.append(bytearray(b'x' * (1 << 24)))"

def main(ctx):
    if ctx.rank == 0:
        time.sleep(60)
    if ctx.config["who"] == "rank":
        exec(TAKE_ALL)
    subprocess.run([sys.executable, "-c", TAKE_ALL], check=True)

if __name__ == "__main__":
    run_worker(main)
"""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of version 1 or 2 with a limit of its memory, if one can be made here."""
    name = f"kinetoscope-{uuid4().hex[:8]}"
    made, refused = None, "no cgroup of memory is mounted at /sys/fs/cgroup"
    for top, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        folder = Path("/sys/fs/cgroup") / top / name
        if not (folder.parent / "cgroup.procs").is_file():
            continue
        try:
            folder.mkdir()
            (folder / limit).write_text(str(LIMIT_BYTES))
        except OSError as error:
            refused = str(error)
            with suppress(OSError):
                folder.rmdir()
        else:
            made = folder
            break
    if made is None:
        pytest.skip(f"needs the right to make a cgroup: {refused}")
    yield made
    deadline = time.monotonic() + 10
    while made.exists() and time.monotonic() < deadline:
        with suppress(OSError):  # of processes that are just ending
            made.rmdir()
        time.sleep(0.1)


@pytest.mark.parametrize("who", ["rank", "a process of its own"])
def test_a_rank_that_is_killed_at_the_limit_is_told_to_be_out_of_memory(
    cgroup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    place_worker(tmp_path, monkeypatch, "greedy_worker", WORKER)
    runtime = RuntimeConfig(num_processes=2, threads_per_process=1)
    root_uri = (tmp_path / "objects").as_uri()
    spec = step_spec("toy", "greedy_worker", root_uri, {"who": who}, runtime=runtime)
    join = f"import os; open({str(cgroup / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
    run = f"{join}; os.execv({sys.executable!r}, {[sys.executable]} + __import__('sys').argv[1:])"
    supervisor = ["-m", "kinetoscope.steps.supervisor", write_spec(spec)]
    pod = subprocess.Popen([sys.executable, "-c", run, *supervisor], env=os.environ)
    try:
        assert pod.wait(60) == ExitCode.FAILED
    finally:
        end_all([pod])
    ended = step_state(spec.uri).ended
    assert ended is not None
    killed = "rank 1" if who == "rank" else "a process"
    told = f"out of memory: {killed} was killed at the limit of 512.0 MiB"
    assert ended.reason.split("; ")[-1] == told
    assert ended.reason.startswith(told if who == "rank" else "CalledProcessError: ")
    assert ended.hint == "raise the memory limit, or make the micro-batch smaller"
