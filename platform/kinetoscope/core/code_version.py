"""What code a module runs: digests of all sources, and the data beside them, that it can reach."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.hashing import digest_bytes, digest_json
from kinetoscope.core.settings import cache_sources

_PACKAGE = "kinetoscope"
_INSTALLED = {"site-packages", "dist-packages"}
_NO_DATA = {".py", ".pyc", ".typed"}
_ROOT = Path(__file__).resolve().parents[1]


def code_digest(*modules: str) -> str:
    """Digest the sources that the modules can reach through imports of ours.

    Imports inside functions count too, and files of data in a reached module's folder. Two steps
    that share no module have independent digests.

    Args:
        modules: dotted names; of another distribution's module (a kind of model, say) the modules
            of its own top-level package count too.

    Raises:
        ConfigError: a module has no source here.
    """
    return _digest(reachable_modules(*modules))


def sources_digest(*modules: str) -> str:
    """Digest as `code_digest` does, but only what lies in a checkout; empty where nothing does.

    So a developer's change re-runs just the steps that can execute it, and an upgrade of an
    installed package re-runs nothing. ``KINO_CACHE_SOURCES`` says 1 (all counts) or 0 (nothing).
    """
    counted = cache_sources()
    reached = reachable_modules(*modules) if counted is not False else set()
    if counted is None:
        reached = {module for module in reached if _is_checkout(module.partition(".")[0])}
    return _digest(reached) if reached else ""


def reachable_modules(*modules: str) -> set[str]:
    """Return the modules whose sources `code_digest` digests."""
    reached: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module not in reached:
            reached.add(module)
            todo.extend(_imports(module))
            todo.extend(_packages(module))
    return reached


def _digest(modules: set[str]) -> str:
    digests = {module: digest_bytes(_source(module)) for module in modules}
    paths = {module: path for module in modules if (path := _path(module)) is not None}
    # By the package's whole name: two folders may have the same last one.
    folders = {
        module if path.name == "__init__.py" else module.rpartition(".")[0]: path.parent
        for module, path in paths.items()
    }
    for package, folder in folders.items():
        for path in folder.iterdir():
            if path.is_file() and path.suffix not in _NO_DATA:
                digests[f"{package}/{path.name}"] = digest_bytes(path.read_bytes())
    return digest_json(digests)


@cache
def _is_checkout(package: str) -> bool:
    """Tell whether a package is used where it is developed: not from an environment's folder."""
    roots = (_ROOT,) if package == _PACKAGE else _roots_of(package)
    return not any(_INSTALLED & set(root.parts) for root in roots)


def _packages(module: str) -> list[str]:
    """Return the packages around another distribution's module: importing it runs them first."""
    top, *rest = module.split(".")
    # Ours hold a docstring each (tests/architecture): they would join steps that share nothing.
    around = [] if top == _PACKAGE else [".".join([top, *rest[:n]]) for n in range(len(rest))]
    return [name for name in around if _path(name)]


def _path(module: str) -> Path | None:
    top, *rest = module.split(".")
    for root in (_ROOT,) if top == _PACKAGE else _roots_of(top):
        base = root.joinpath(*rest)
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                return path
    return None


@cache
def _roots_of(package: str) -> tuple[Path, ...]:
    """Return the folders of a package: several where distributions share a namespace."""
    spec = find_spec(package)
    return tuple(map(Path, spec.submodule_search_locations or ())) if spec else ()


def _source(module: str) -> bytes:
    path = _path(module)
    if path is None:
        raise ConfigError(
            f"there is no source of the module {module!r}: the version of its code can't be told",
            hint="install the distribution that has it as plain files",
        )
    return path.read_bytes()


@cache
def _imports(module: str) -> tuple[str, ...]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
            found.update(*(_modules_of_package(alias.name) for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, module)
            found.add(origin)
            found.update(f"{origin}.{alias.name}" for alias in node.names)
    ours = (f"{_PACKAGE}.", f"{module.partition('.')[0]}.")
    return tuple(name for name in found if name.startswith(ours) and _path(name))


def _modules_of_package(name: str) -> list[str]:
    """Return all modules of one of our packages: who imports it whole loads them by name."""
    path = _path(name) if name.startswith(f"{_PACKAGE}.") else None
    if path is None or path.name != "__init__.py":
        return []
    return [f"{name}.{module.stem}" for module in path.parent.glob("[!_]*.py")]


def _origin(node: ast.ImportFrom, module: str) -> str:
    """Return the absolute name of what an import in a module is from."""
    if not node.level:
        return node.module or ""
    path = _path(module)
    is_package = path is not None and path.name == "__init__.py"
    parts = module.split(".")
    around = parts[: len(parts) + is_package - node.level]
    return ".".join([*around, node.module] if node.module else around)
