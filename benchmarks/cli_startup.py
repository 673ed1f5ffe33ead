"""Measure how soon the command line answers: CPU seconds, medians of alternating runs.

``kino --help`` is held against an empty typer app of as many verbs; the verbs that read records
against ``kino ls``, in a workspace of one finished run and in one of a hundred; ``kino models``
against importing MLflow and opening its store. The last line is JSON; exit code 1 where a bound is
missed.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NUM_RUNS = 7
MANY = 100
MAX_HELP_RATIO = 1.3
MAX_RATIO = 1.5
MAX_RESUME_RATIO = 3.0
MAX_MODELS_RATIO = 1.2
MAX_MANY_RATIO = 3.0
"""Of `kino ls` with a hundred runs to that with one."""

READ_RECORDS = ("show", "status", "logs", "data report", "recipes", "config show")
RESUME = "resume"
ASK_MLFLOW = ("models ls", "models show toy")

_BARE_MLFLOW = """
import sys
import mlflow
client = mlflow.MlflowClient(tracking_uri=sys.argv[1], registry_uri=sys.argv[1])
client.search_registered_models(max_results=1)
"""
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


class Measured(NamedTuple):
    """A verb's time by that of what it is held against, and how much of it is allowed."""

    ratio: float
    bound: float


def main() -> int:
    """Measure and print; return the exit code."""
    sys.path[:0] = [str(ROOT / name) for name in ("platform", "components", "tests")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, many = _workspace(folder / "one", 1), _workspace(folder / "many", MANY)
        help_seconds = _help_seconds(folder / "empty.py")
        verbs = {
            **_verb_ratios(one, ""),
            **_verb_ratios(many, f"_of_{MANY}"),
            **_models_ratios(one),
            f"ls_of_{MANY}": Measured(_many_ratio(one, many), MAX_MANY_RATIO),
        }
    overall = Measured(help_seconds["kino"] / help_seconds["empty"], MAX_HELP_RATIO)
    told: dict[str, float] = {f"{key}_seconds": round(s, 4) for key, s in help_seconds.items()}
    told |= {"ratio": round(overall.ratio, 3), "max_ratio": MAX_HELP_RATIO}
    told |= {f"cli.{verb}_ratio": round(found.ratio, 3) for verb, found in verbs.items()}
    for verb, found in {"--help": overall, **verbs}.items():
        print(f"{verb:<24}{found.ratio:.2f}, at most {found.bound}")
    print(json.dumps(told))
    return int(any(found.ratio > found.bound for found in (overall, *verbs.values())))


def _workspace(root: Path, num_runs: int) -> Path:
    """Make a workspace of finished runs, and register the model that each says it made."""
    from tiny.runs import TOY_KEY, make_finished_run

    from kinetoscope.core.settings import Workspace
    from kinetoscope.storage.open import open_store
    from kinetoscope.tracking.registry import ModelRegistry
    from kinetoscope.tracking.versions import NewVersion

    os.environ["KINO_WORKSPACE"] = str(root)
    for number in range(num_runs):
        make_finished_run(f"r{number:07d}", created_at=float(number + 1))
    new = NewVersion(name="toy", bundle_key=TOY_KEY, bundle_digest="sha256:0")
    own = Workspace(root)
    ModelRegistry(own.tracking_uri).register_version(new, open_store(own.store_uri))
    return root


def _help_seconds(empty: Path) -> dict[str, float]:
    empty.write_text(_empty_app())
    return _medians({"kino": _kino("--help"), "empty": [sys.executable, str(empty), "--help"]})


def _verb_ratios(workspace: Path, suffix: str) -> dict[str, Measured]:
    bounds = dict.fromkeys(READ_RECORDS, MAX_RATIO) | {RESUME: MAX_RESUME_RATIO}
    commands = {verb: _kino(*verb.split()) for verb in ("ls", *bounds)}
    seconds = _medians(commands, workspace)
    names = {verb: "resume_finished" if verb == RESUME else verb for verb in bounds}
    return {
        names[verb].replace(" ", "_") + suffix: Measured(seconds[verb] / seconds["ls"], bound)
        for verb, bound in bounds.items()
    }


def _models_ratios(workspace: Path) -> dict[str, Measured]:
    bare = [sys.executable, "-c", _BARE_MLFLOW, f"sqlite:///{workspace / 'mlflow.db'}"]
    commands = {verb: _kino(*verb.split()) for verb in ASK_MLFLOW}
    seconds = _medians({**commands, "bare": bare}, workspace, num_runs=3)
    return {
        "_".join(verb.split()[:2]): Measured(seconds[verb] / seconds["bare"], MAX_MODELS_RATIO)
        for verb in ASK_MLFLOW
    }


def _many_ratio(one: Path, many: Path) -> float:
    return _medians({"ls": _kino("ls")}, many)["ls"] / _medians({"ls": _kino("ls")}, one)["ls"]


def _kino(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "cli.py"), *arguments]


def _empty_app() -> str:
    """Return the source of an app with the verbs of ours and nothing behind them."""
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


def _medians(
    commands: dict[str, list[str]], workspace: Path | None = None, num_runs: int = NUM_RUNS
) -> dict[str, float]:
    """Run each command once for nothing and then all in turn; return CPU seconds by name."""
    if workspace is not None:
        os.environ["KINO_WORKSPACE"] = str(workspace)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        _time(command)
    for _ in range(num_runs):
        for name, command in commands.items():
            seconds[name].append(_time(command))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _time(command: list[str]) -> float:
    """Return the CPU time that a command took, which other processes do not change much."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
