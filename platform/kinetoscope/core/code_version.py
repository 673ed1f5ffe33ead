"""The version of the code that a module runs: a digest of all sources that it can reach."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from kinetoscope.core.hashing import digest_bytes, digest_json

_PACKAGE = "kinetoscope"
_ROOT = Path(__file__).resolve().parents[1]


def code_version(*modules: str) -> str:
    """Digest the sources that the modules can reach through imports of ours.

    Imports inside functions count too. Two steps that share no module have independent versions, so
    a changed source line re-runs just the steps that can execute it.

    Args:
        modules: dotted names; of another distribution's module (a kind of model, say) the modules
            of its own top-level package count too.
    """
    reached = sorted(reachable_modules(*modules))
    return digest_json({module: digest_bytes(_source(module)) for module in reached})


def reachable_modules(*modules: str) -> set[str]:
    """Return the modules whose sources `code_version` digests."""
    reached: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module not in reached:
            reached.add(module)
            todo.extend(_imports(module))
    return reached


def _path(module: str) -> Path | None:
    top, *rest = module.split(".")
    root = _ROOT if top == _PACKAGE else _root_of(top)
    if root is None:
        return None
    base = root.joinpath(*rest)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _root_of(package: str) -> Path | None:
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(folders[0]) if folders else None


def _source(module: str) -> bytes:
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(f"no module {module!r}")
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
    ours = (f"{_PACKAGE}.", f"{module.partition('.')[0]}.")
    return tuple(name for name in found if name.startswith(ours) and _path(name))
