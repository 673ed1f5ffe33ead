"""The rooms of the house: no circle of modules, and none with too many at one level."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "platform" / "kinetoscope"
MAX_MODULES = 15
# Each verb is a module, however many there are.
ANY_NUMBER = {"cli/verbs"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {_dotted(path): path for path in PACKAGE.rglob("*.py")}
    graph = {name: _imports(path) & modules.keys() - {name} for name, path in modules.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_no_room_has_too_many_modules_at_one_level() -> None:
    rooms = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    sizes = {
        room.relative_to(PACKAGE).as_posix(): len(list(room.glob("[!_]*.py"))) for room in rooms
    }
    full = {room: n for room, n in sizes.items() if n > MAX_MODULES and room not in ANY_NUMBER}
    assert full == {}


def _dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _imports(path: Path) -> set[str]:
    """Return what a module imports anywhere, for type checkers and in functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            # A package is imported with each of its modules; its face imports nothing of them.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names | {node.module}
    return found
