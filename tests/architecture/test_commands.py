"""Every ``python -m`` of ours that is written anywhere starts a module that can be run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("charts", "manifests", "components/images", "docs", ".ci", "platform")
FILES = ("Makefile", "README.md", "CONTRIBUTING.md")

# In a shell, in a list of YAML in either style, and in one of Python.
COMMAND = re.compile(r"-m[\"']?,?[\s\"'-]+(kinetoscope\w*(?:\.\w+)*)")
GUARD = re.compile(r"^if __name__ == \"__main__\":$", re.MULTILINE)


def _commands() -> dict[str, set[str]]:
    """Return the modules that are run, by the file that says so."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    found = {}
    for path in [*paths, *(ROOT / name for name in FILES)]:
        if path.is_dir() or path.suffix == ".pyc":
            continue
        modules = set(COMMAND.findall(path.read_text(errors="ignore")))
        if modules:
            found[path.relative_to(ROOT).as_posix()] = modules
    return found


def _can_be_run(module: str) -> bool:
    for root in ("platform", "components"):
        path = ROOT.joinpath(root, *module.split("."))
        source = path.with_name(f"{path.name}.py")
        if (path / "__main__.py").is_file() or (
            source.is_file() and GUARD.search(source.read_text())
        ):
            return True
    return False


@pytest.mark.parametrize(("place", "modules"), _commands().items())
def test_what_is_started_by_name_is_there_and_runs(place: str, modules: set[str]) -> None:
    assert {module for module in modules if not _can_be_run(module)} == set(), place


@pytest.mark.parametrize("folder", ["charts", "manifests", "docs", "platform"])
def test_commands_are_found_where_there_are_some(folder: str) -> None:
    assert any(place.startswith(f"{folder}/") for place in _commands())


@pytest.mark.parametrize(
    "text",
    [
        "$ python -m kinetoscope.a.b --flag",
        "`python -m kinetoscope.a.b`.",
        "command: [python, -m, kinetoscope.a.b, serve]",
        'CMD ["python", "-m", "kinetoscope.a.b"]',
        "- python\n        - -m\n        - kinetoscope.a.b\n",
        'command = [\n    "-m",\n    "kinetoscope.a.b",\n]',
    ],
)
def test_a_command_is_recognised_however_it_is_written(text: str) -> None:
    assert COMMAND.findall(text) == ["kinetoscope.a.b"]


@pytest.mark.parametrize(
    "module", ["kinetoscope.training.smoke_job", "kinetoscope.core.ids", "kinetoscope.models"]
)
def test_a_module_that_is_absent_or_does_nothing_can_not_be_run(module: str) -> None:
    assert not _can_be_run(module)
