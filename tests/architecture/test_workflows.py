"""The hosted workflows: no rights but reading, actions by digest, and nothing but make targets."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _read(path: Path) -> dict[Any, Any]:
    workflow: dict[Any, Any] = yaml.safe_load(path.read_text())
    return workflow


def _steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def _target(command: str) -> str:
    """Return the one target of ``make TARGET [NAME=VALUE ...]``."""
    program, target, *variables = shlex.split(command)
    assert program == "make"
    assert all("=" in variable for variable in variables)
    return target


each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def test_there_are_workflows_for_changes_and_for_long_tests() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "long.yml"]


@each_workflow
def test_a_workflow_may_only_read_the_repository(path: Path) -> None:
    workflow = _read(path)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
    assert "secrets" not in path.read_text()


@each_workflow
def test_actions_are_pinned_by_commit_with_their_version_beside(path: Path) -> None:
    used = re.findall(r"^.*\buses:.*$", path.read_text(), re.MULTILINE)
    assert used
    pinned = re.compile(r" *- uses: actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [line for line in used if not pinned.fullmatch(line)] == []


@each_workflow
def test_a_checkout_leaves_no_credentials(path: Path) -> None:
    steps = _steps(_read(path))
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@each_workflow
def test_a_job_runs_nothing_but_targets_of_the_makefile(path: Path) -> None:
    run = {_target(step["run"]) for step in _steps(_read(path)) if "run" in step}
    assert run
    assert run - TARGETS == set()


@each_workflow
def test_a_job_ends_by_itself_and_gives_way_to_a_newer_one(path: Path) -> None:
    workflow = _read(path)
    assert workflow["concurrency"]["cancel-in-progress"] is True
    assert "github.ref" in workflow["concurrency"]["group"]
    assert all(job["timeout-minutes"] <= 240 for job in workflow["jobs"].values())


@each_workflow
def test_a_workflow_names_no_address(path: Path) -> None:
    assert "://" not in path.read_text()


def test_each_change_is_linted_tested_packaged_and_compared() -> None:
    steps = _steps(_read(ROOT / ".github" / "workflows" / "ci.yml"))
    run = {_target(step["run"]) for step in steps if "run" in step}
    assert run == {"setup", "lint", "coverage", "test-deploy", "test-wheel", "parity"}


def test_the_long_tests_run_every_week_and_on_demand() -> None:
    workflow = _read(ROOT / ".github" / "workflows" / "long.yml")
    # YAML 1.1 reads the key `on` as true.
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}
    assert "test-long" in {_target(step["run"]) for step in _steps(workflow) if "run" in step}
