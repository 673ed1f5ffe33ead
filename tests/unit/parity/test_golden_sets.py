"""Every file of the golden sets, made by running the reference, is understood and right."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinetoscope.parity.golden import read_index
from kinetoscope.parity.runner import run_set

GOLDEN = Path(__file__).parents[2] / "golden"
SETS = ("reference", "variations", "gradients")
FILES = [(name, file) for name in SETS for file in read_index(GOLDEN / name)]


# Autocast gives torch's RMS norm a bfloat16 input beside a float32 weight, of which it warns.
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize(("golden_set", "file"), FILES)
def test_golden_file(golden_set: str, file: str) -> None:
    wrong = [row.result for row in run_set(GOLDEN / golden_set, only=file) if not row.result.ok]
    assert not wrong
