"""The docs point at what is there: links, headings, files, modules, names in modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for top in ("charts", "components", "docs") for page in (ROOT / top).rglob("*.md")),
    ]
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# A fence inside a list is indented.
_CODE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_PYTHON = re.compile(r"^ *```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
# Files, by their path in the checkout or, as pages that speak of code do, in an area's folder.
_TREES = "benchmarks|charts|components|docs|manifests|platform|requirements|tests"
_PATH = re.compile(rf"`((?:{_TREES})/[^`\s]*|[a-z_]+(?:/[a-z_]+)*/[a-z_]+\.py)`")
_DOTTED = re.compile(r"\bkinetoscope(?:_components)?(?:\.[A-Za-z_]\w*)+")
# The prefix of labels, and a key in a file's metadata.
_NO_MODULES = ("kinetoscope.dev", "kinetoscope.schema_version")

each_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)


def _source(module: str) -> Path | None:
    """Return the folder or the file of a module of ours."""
    package, *rest = module.split(".")
    path = (ROOT / ("platform" if package == "kinetoscope" else "components")).joinpath(
        package, *rest
    )
    if path.is_dir():
        return path
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


@cache
def _names(path: Path) -> frozenset[str]:
    """Return what a module binds at its top level."""
    text = (path / "__init__.py" if path.is_dir() else path).read_text()
    names: set[str] = set()
    for node in ast.parse(text).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names.update(target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return frozenset(names)


def _is_there(dotted: str) -> bool:
    """Tell whether a dotted name is a module of ours or something that one defines."""
    module, _, name = dotted.rpartition(".")
    if _source(dotted) is not None:
        return True
    source = _source(module) if module else None
    return source is not None and name in _names(source)


def _slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", _CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _imports(page: Path) -> Iterator[str]:
    for example in _PYTHON.findall(page.read_text()):
        for node in ast.walk(ast.parse(dedent(example))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kinetoscope"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_pages_are_found() -> None:
    found = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "docs/architecture.md"} <= found


@each_page
def test_a_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        if "://" in link:
            continue
        if not target.exists() or (heading and heading not in _slugs(target)):
            broken.append(link)
    assert broken == []


@each_page
def test_a_file_that_is_named_exists(page: Path) -> None:
    named = [re.sub(r"<\w+>", "*", path) for path in _PATH.findall(page.read_text())]
    places = (ROOT, ROOT / "platform" / "kinetoscope")
    assert [path for path in named if not any(any(at.glob(path)) for at in places)] == []


@each_page
def test_a_module_that_is_named_exists(page: Path) -> None:
    named = set(_DOTTED.findall(page.read_text()))
    modules = {name for name in named if not name.startswith(_NO_MODULES)}
    assert sorted(name for name in modules if not _is_there(name)) == []


@each_page
def test_an_example_imports_what_there_is(page: Path) -> None:
    assert [name for name in _imports(page) if not _is_there(name)] == []


def test_the_readme_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in _LINK.findall((ROOT / "README.md").read_text())}
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert sorted(pages - linked) == []
