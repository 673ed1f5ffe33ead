"""What the golden files at hand do not show: other sets of flow and masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kinetoscope.parity.checks.frame_masks import check_mask_generator
from kinetoscope.parity.checks.rectified_flow import check_rflow_sample, check_rflow_training
from kinetoscope.parity.compare import CaseResult
from kinetoscope.parity.golden import GoldenFile, Tolerance
from kinetoscope.parity.runner import run_set

GOLDEN = Path(__file__).parents[3] / "golden" / "reference"
STUB = {"a": 0.7, "b": -0.4, "c": 0.9, "d": 0.25}


def _training(scheduler: dict[str, Any], **changes: torch.Tensor) -> CaseResult:
    """Check a case of one step at time 250, as hand-computed here."""
    x0, noise = torch.ones(1, 4, 2, 1, 1), torch.full((1, 4, 2, 1, 1), 3.0)
    half = scheduler.get("num_timesteps", 1000) / 4
    error = STUB["a"] * 1.5 + STUB["b"] * half / 1000 + STUB["c"] * 2 - (1 - 3)
    side = torch.full((1,), 240.0)
    given = {
        "in/x_start": x0,
        "in/noise": noise,
        "in/t": torch.tensor([half]),
        "in/y": torch.full((1, 1, 3, 6), 2.0),
        **{f"in/{name}": side for name in ("height", "width", "num_frames", "fps")},
        "out/loss": torch.tensor([error**2]),
    }
    golden = GoldenFile(
        name="a",
        kind="rflow_training",
        config={"stub_model": STUB, "scheduler": scheduler},
        tolerances={"out": Tolerance(1e-5, 1e-5)},
        tensors=given | {name.replace("__", "/"): value for name, value in changes.items()},
    )
    (result,) = check_rflow_training(golden)
    return result


def test_other_numbers_of_timesteps_are_understood() -> None:
    assert _training({}).ok
    assert _training({"num_timesteps": 500}).ok
    assert not _training({}, in__t=torch.tensor([300.0])).ok


def test_the_models_mask_is_the_files_where_the_loss_has_none() -> None:
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert _training({}, in__mask=mask).ok, "no x_mask: the stub adds nothing"
    assert not _training({}, in__x_mask=mask).ok
    assert not _training({}, in__mask=mask, in__x_mask=mask).ok


@pytest.mark.parametrize(
    ("scheduler", "changes", "told"),
    [
        ({"sigma": 1}, {}, "options of the scheduler that are not understood: sigma"),
        ({}, {"in__weights": torch.ones(1)}, "inputs that are not understood: weights"),
    ],
)
def test_what_is_not_understood_fails(scheduler: Any, changes: Any, told: str) -> None:
    result = _training(scheduler, **changes)
    assert not result.ok
    assert told in result.detail


def test_a_wrong_trajectory_fails() -> None:
    z, side = torch.zeros(1, 4, 1, 1, 1), torch.full((1,), 512.0)
    golden = GoldenFile(
        name="a",
        kind="rflow_sample",
        config={"stub_model": STUB, "scheduler": {"num_sampling_steps": 1, "cfg_scale": 3.0}},
        tolerances={"out": Tolerance(1e-5, 1e-5)},
        tensors={
            "in/z": z,
            "in/y": torch.ones(1, 1, 2, 3),
            "in/y_null": torch.zeros(1, 1, 2, 3),
            **{f"in/{name}": side for name in ("height", "width", "num_frames", "fps")},
            "out/final": z + STUB["b"] + 3 * STUB["c"],
            "out/model_t": torch.tensor([[1000.0]]),
        },
    )
    (right,) = check_rflow_sample(golden)
    assert right.ok
    golden.tensors["out/final"].add_(0.1)
    (wrong,) = check_rflow_sample(golden)
    assert not wrong.ok


def _masks(given: dict[str, Any], out: dict[str, Any]) -> list[CaseResult]:
    data = {"in": {key: [value] for key, value in given.items()}}
    data["out"] = {key: [value] for key, value in out.items()}
    return list(check_mask_generator(GoldenFile(name="a", kind="mask_generator", data=data)))


def test_frequencies_of_masks_are_checked_also_where_the_reference_fails() -> None:
    case = {"mask_ratios": {"image_head_tail": 1.0}, "T": 2, "N": 50, "seed": 0}
    nothing = {
        "frac_false_per_frame": [1.0, 1.0],
        "frac_all_true": 0.0,
        "hist_num_false": [0, 0, 50],
    }
    (all_given,) = _masks({"stats": case}, {"stats": nothing})
    assert all_given.ok
    (wrong,) = _masks({"stats": case | {"T": 3}}, {"stats": nothing | {"hist_num_false": [50, 0]}})
    assert not wrong.ok
    quarter = case | {"mask_ratios": {"quarter_head": 1.0}}
    (raises,) = _masks({"stats": quarter}, {"stats": {"raises": "ValueError"}})
    assert raises.ok
    (other,) = _masks({"more": case}, {"more": {}})
    assert "no section" in other.detail


def test_the_files_at_hand_have_cases() -> None:
    for pattern, count in (("rflow*", 32), ("mask_generator*", 114)):
        rows = list(run_set(GOLDEN, only=pattern))
        assert len(rows) == count
        assert all(row.result.ok for row in rows)
