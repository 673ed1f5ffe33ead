from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.steps.scratch import make_scratch

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


def test_a_folder_whose_owner_runs_elsewhere_is_left_alone(tmp_path: Path) -> None:
    folder = make_scratch(tmp_path, "x")
    elsewhere = ProcessIdentity(host="elsewhere", pid=1, started_at=0.0)
    (folder / "owner.json").write_bytes(elsewhere.to_bytes())
    damaged = make_scratch(tmp_path, "x")
    (damaged / "owner.json").write_text("{")
    make_scratch(tmp_path, "y")
    assert folder.exists()
    assert damaged.exists()
