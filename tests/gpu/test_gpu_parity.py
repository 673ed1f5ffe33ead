"""The reference's values on a GPU: a small file of each kind; benchmarks/gpu.py compares all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinetoscope.parity.runner import run_set

pytestmark = pytest.mark.gpu

GOLDEN = Path(__file__).parents[1] / "golden" / "reference"


@pytest.mark.parametrize("files", ["stdit3_variant*", "vae_temporal*", "rflow_sample*"])
def test_models_give_the_values_of_the_reference(device: torch.device, files: str) -> None:
    rows = list(run_set(GOLDEN, files, str(device)))
    assert rows
    assert [f"{row.result.case}: {row.result.detail}" for row in rows if not row.result.ok] == []
