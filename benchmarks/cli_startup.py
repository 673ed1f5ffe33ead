"""Compare ``kino --help`` with an empty typer app of as many verbs: medians of alternating runs.

The bound (issue: at most 1.3 times) keeps imports out of the command line's start. The last line is
JSON. Exit code 1 when the bound is missed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NUM_RUNS = 10
MAX_RATIO = 1.3

_EMPTY_APP = """
import typer
app = typer.Typer(name="empty", help="Nothing.")
{groups}
def verb() -> None:
    "Do nothing."
for name in {verbs!r}:
    app.command(name)(verb)
for group, names in groups.items():
    sub = typer.Typer(name=group, help="Nothing.")
    for name in names:
        sub.command(name)(verb)
    app.add_typer(sub)
app()
"""


def main() -> int:
    """Measure and print; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty.py")
        empty.write_text(_empty_app())
        commands = {
            "kino": [sys.executable, str(ROOT / "cli.py"), "--help"],
            "empty": [sys.executable, str(empty), "--help"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for command in commands.values():
            _time(command)
        for _ in range(NUM_RUNS):
            for name, command in commands.items():
                seconds[name].append(_time(command))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["kino"] / medians["empty"]
    print(f"median of {NUM_RUNS}: kino {medians['kino']:.3f} s, empty {medians['empty']:.3f} s")
    told = {f"{name}_seconds": round(value, 4) for name, value in medians.items()}
    print(json.dumps({**told, "ratio": round(ratio, 3), "max_ratio": MAX_RATIO}))
    return int(ratio > MAX_RATIO)


def _empty_app() -> str:
    """Return the source of an app with the verbs of ours and nothing behind them."""
    sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "components")]
    from kinetoscope.cli.app import app

    verbs = [command.name for command in app.registered_commands]
    groups = {
        group.typer_instance.info.name: [
            command.name or command.callback.__name__
            for command in group.typer_instance.registered_commands
            if command.callback
        ]
        for group in app.registered_groups
        if group.typer_instance
    }
    return _EMPTY_APP.format(verbs=verbs, groups=f"groups = {groups!r}")


def _time(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
