from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kinetoscope.steps import scratch
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.steps.scratch import make_scratch, scratch_folder

OTHER = """
import sys, time
from pathlib import Path
from kinetoscope.steps.scratch import make_scratch
print(make_scratch(Path(sys.argv[1]), "step-1"), flush=True)
time.sleep(60)
"""


def test_folders_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    theirs = Path(process.stdout.readline().strip())
    (theirs / "progress.json").write_text("{}")
    ours = make_scratch(tmp_path, "step-1")
    assert theirs.exists()
    process.kill()
    process.communicate()
    again = make_scratch(tmp_path, "step-1")
    assert len({ours, again, theirs}) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["kept", ours.name, again.name]
    )


def _age(folder: Path, days: float) -> None:
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (0, time.time() - days * 86_400))


def test_a_folder_of_an_owner_elsewhere_goes_once_nobody_wrote_there_for_a_week(
    tmp_path: Path,
) -> None:
    elsewhere = ProcessIdentity(host="elsewhere", pid=1, started_at=0.0).to_bytes()
    old, used = make_scratch(tmp_path, "old"), make_scratch(tmp_path, "used")
    mine = make_scratch(tmp_path, "mine")
    for folder in (old, used):
        (folder / "owner.json").write_bytes(elsewhere)
    (used / "logs").mkdir()
    (used / "logs" / "rank-0.log").touch()
    for folder in (old, used, mine):
        _age(folder, 8)
    (used / "logs" / "rank-0.log").write_text("step 9\n")
    make_scratch(tmp_path, "next")
    assert [folder.exists() for folder in (old, used, mine)] == [False, True, True]


def test_a_folder_that_is_given_for_long_is_kept_though_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "_TOUCH_SECONDS", 0.05)
    with scratch_folder(tmp_path, "kfp") as folder:
        _age(folder, 8)
        deadline = time.monotonic() + 20
        while time.time() - (folder / "owner.json").stat().st_mtime > 60:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not folder.exists()


def test_a_folder_whose_owner_runs_elsewhere_is_left_alone(tmp_path: Path) -> None:
    folder = make_scratch(tmp_path, "x")
    elsewhere = ProcessIdentity(host="elsewhere", pid=1, started_at=0.0)
    (folder / "owner.json").write_bytes(elsewhere.to_bytes())
    damaged = make_scratch(tmp_path, "x")
    (damaged / "owner.json").write_text("{")
    make_scratch(tmp_path, "y")
    assert folder.exists()
    assert damaged.exists()
