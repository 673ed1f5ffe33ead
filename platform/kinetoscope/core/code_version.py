"""The version of the code that a module runs: a digest of all sources that it can reach."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from kinetoscope.core.hashing import digest_bytes, digest_json

_PACKAGE = "kinetoscope"
_ROOT = Path(__file__).resolve().parents[1]


def code_version(*modules: str) -> str:
    """Digest the sources that the modules can reach through imports of ours.

    Imports inside functions count too. Two steps that share no module have independent versions, so
    a changed source line re-runs just the steps that can execute it.

    Args:
        modules: dotted names inside ``kinetoscope``.
    """
    reached: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module not in reached:
            reached.add(module)
            todo.extend(_imports(module))
    return digest_json({module: digest_bytes(_source(module)) for module in sorted(reached)})


def _path(module: str) -> Path | None:
    base = _ROOT.joinpath(*module.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _source(module: str) -> bytes:
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(f"no module {module!r} in {_ROOT}")
    return path.read_bytes()


@cache
def _imports(module: str) -> tuple[str, ...]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(name for name in found if name.startswith(f"{_PACKAGE}.") and _path(name))
