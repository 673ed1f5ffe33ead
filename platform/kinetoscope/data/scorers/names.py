"""Names of all scores that can be measured; loads no scorer."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_OURS = frozenset({"__init__", "base", "names", "registry"})


@cache
def score_names() -> tuple[str, ...]:
    """Return the names, sorted: each module of this folder is a scorer but those that serve all."""
    found = {path.stem for path in Path(__file__).parent.glob("*.py")}
    return tuple(sorted(found - _OURS))
