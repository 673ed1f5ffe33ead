"""Sizes of modules, functions and components; locks without addresses."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for root in ("platform", "components", "benchmarks", "tests")
    for path in (ROOT / root).rglob("*.py")
)
COMPONENTS = sorted((ROOT / "components" / "kinetoscope_components").glob("*/component.py"))
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 60
MAX_COMPONENT_LINES = 40
LOCKS = sorted((ROOT / "requirements").iterdir())


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_module_is_too_long() -> None:
    modules = [path for path in SOURCES if ROOT / "tests" not in path.parents]
    lengths = {_name(path): len(path.read_text().splitlines()) for path in modules}
    assert {name: n for name, n in lengths.items() if n > MAX_MODULE_LINES} == {}


def test_no_function_is_too_long() -> None:
    too_long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    too_long[f"{_name(path)}:{node.name}"] = length
    assert too_long == {}


def test_test_files_have_unique_names() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_there_are_components() -> None:
    assert len(COMPONENTS) > 1


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.parent.name)
def test_a_component_is_a_thin_wrapper(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    imported = {
        name.partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else _names(node))
    }
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(text.splitlines()) <= MAX_COMPONENT_LINES
    assert imported == {"kfp"}
    assert [function.name for function in functions] == [path.parent.name]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert not re.search(r"--(index-url|extra-index-url|find-links)\s", text)


@pytest.mark.parametrize(
    "name", ["default.lock", "colossalai.lock", "installer.lock", "wheelhouse.lock"]
)
def test_a_lock_pins_and_hashes_all(name: str) -> None:
    blocks = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / "requirements" / name).read_text())
    packages = [block for block in blocks if not block.startswith("#")]
    assert packages
    assert [b.splitlines()[0] for b in packages if "==" not in b or "--hash=sha256:" not in b] == []


def _names(node: ast.Import) -> list[str]:
    return [alias.name for alias in node.names]
