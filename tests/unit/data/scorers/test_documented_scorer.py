"""The scorer that docs/add-a-scorer.md shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from kinetoscope.data.scorers.base import Scorer, WorkingFrame

PAGE = Path(__file__).parents[4] / "docs" / "add-a-scorer.md"


def test_the_documented_scorer_measures() -> None:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(compile(code.group(1), str(PAGE), "exec"), names)  # noqa: S102 (our own page)
    scorer: Scorer = names["SCORER"]()
    for level in (10, 20, 60):
        gray = np.full((4, 6), level, np.uint8)
        scorer.push(WorkingFrame(np.repeat(gray[..., None], 3, axis=-1), gray))
    assert scorer.measure(0, 2) == 15.0
    assert scorer.measure(2, 3) == 60.0
