"""Every example of docs/parity.md runs as it stands; its families and the named tests exist."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from kinetoscope.parity.families import FAMILIES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.splitlines()[0][2:60])
def test_an_example_runs(example: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")
    runpy.run_path(str(script))


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_a_family_is_described_with_its_mode(kind: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{kind}` |")]
    assert f"| `{FAMILIES[kind].mode}` |" in row


@pytest.mark.parametrize("page", ["numerics.md", "parity.md"])
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    sources = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    functions = set(re.findall(r"def (test_\w+)", "\n".join(sources.values())))
    named = re.findall(
        r"`(?:tests/[\w/]*/)?(test_\w+(?:\.py)?)`", (ROOT / "docs" / page).read_text()
    )
    assert named
    assert [name for name in named if name not in functions and name not in sources] == []
