"""The runner of golden sets: what it accepts, and above all what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.parity.__main__ import main
from kinetoscope.parity.compare import exact_cases, tensor_error
from kinetoscope.parity.devices import exact_products
from kinetoscope.parity.families import FAMILIES, check_of
from kinetoscope.parity.golden import OTHER_DEVICE_SLACK, Tolerance, read_golden, read_index
from kinetoscope.parity.runner import run_set

GOLDEN = Path(__file__).parents[2] / "golden" / "reference"
NOISE = "rflow_add_noise.safetensors"


@pytest.fixture
def golden_set(tmp_path: Path) -> Path:
    """A set of one small file that passes."""
    entry = json.loads((GOLDEN / "index.json").read_text())["files"][NOISE]
    (tmp_path / "index.json").write_text(json.dumps({"files": {NOISE: entry}}))
    shutil.copy(GOLDEN / NOISE, tmp_path)
    return tmp_path


def test_a_right_set_passes(golden_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(golden_set)]) == 0
    assert "1 of 1 cases of 1 files are ok" in capsys.readouterr().out


def test_a_changed_value_fails(golden_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(golden_set / NOISE)
    tensors["out/x_t"][0] += 1e-3
    save_file(tensors, golden_set / NOISE, {"kind": "rflow_add_noise", "config": "{}"})
    assert main([str(golden_set)]) == 1
    assert "x_t off by" in capsys.readouterr().out


def test_an_output_that_we_do_not_compute_fails(golden_set: Path) -> None:
    tensors = load_file(golden_set / NOISE) | {"out/something_new": torch.zeros(1)}
    save_file(tensors, golden_set / NOISE, {"kind": "rflow_add_noise", "config": "{}"})
    (row,) = run_set(golden_set)
    assert not row.result.ok
    assert "something_new" in row.result.detail


def test_a_file_without_a_family_fails(golden_set: Path) -> None:
    (golden_set / "new.json").write_text(json.dumps({"kind": "unheard_of", "in": {}, "out": {}}))
    rows = {row.file: row.result for row in run_set(golden_set)}
    assert rows[NOISE].ok
    assert not rows["new.json"].ok
    assert "not understood" in rows["new.json"].detail
    assert main([str(golden_set)]) == 1


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b'{"kind": 3}'])
def test_a_damaged_file_fails_and_the_rest_still_runs(golden_set: Path, content: bytes) -> None:
    (golden_set / "damaged.safetensors").write_bytes(content)
    rows = {row.file: row.result.ok for row in run_set(golden_set)}
    assert rows == {NOISE: True, "damaged.safetensors": False}


def test_a_file_that_only_the_index_has_fails(golden_set: Path) -> None:
    index = json.loads((golden_set / "index.json").read_text())
    index["files"]["../outside.json"] = {"kind": "ema"}
    (golden_set / "index.json").write_text(json.dumps(index))
    assert [row.result.ok for row in run_set(golden_set)] == [True, False]


def test_what_is_no_set_is_a_user_error(
    tmp_path: Path, golden_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotFoundError, match="no index"):
        read_index(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no file"):
        list(run_set(golden_set, only="*.csv"))
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "hint:" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["meta", "cuda", "nonsense"])
def test_a_device_that_can_not_be_used_is_a_user_error(
    golden_set: Path, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main([str(golden_set), "--device", device]) == 2
    assert f"device '{device}' can't be used here" in capsys.readouterr().err


def test_a_named_device_runs_the_set_without_tf32(golden_set: Path) -> None:
    before = _tf32()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        with exact_products():
            assert _tf32() == (False, False)
        assert all(row.result.ok for row in run_set(golden_set, device="cpu"))
        assert _tf32() == (True, True)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _tf32() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_a_file_on_another_device_has_its_tensors_there_and_wider_tolerances() -> None:
    golden = read_golden(GOLDEN, NOISE, read_index(GOLDEN)[NOISE])
    moved = golden.on(torch.device("meta"))
    assert {tensor.device.type for tensor in moved.tensors.values()} == {"meta"}
    assert moved.tolerance("x_t") == golden.tolerance("x_t").times(OTHER_DEVICE_SLACK)
    assert golden.on(torch.device("cpu")).tolerance("x_t") == golden.tolerance("x_t")


def test_json_output_is_one_document(golden_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(golden_set), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["file"] == NOISE
    assert row["ok"] is True


def test_every_family_has_its_check() -> None:
    assert all(callable(check_of(kind)) for kind in FAMILIES)


def test_tensors_are_compared_by_either_rule() -> None:
    wanted = torch.tensor([1.0, 1000.0])
    ours = torch.tensor([1.004, 1000.0])
    assert tensor_error(ours, wanted, Tolerance(1e-2, 0.0))[1]
    assert not tensor_error(ours, wanted, Tolerance(1e-3, 1e-3))[1]
    assert tensor_error(ours, wanted, Tolerance(0.0, 0.0, relative_to_max=1e-5))[1]


def test_no_tolerance_of_elements_hides_a_small_tensor() -> None:
    wanted = torch.tensor([3e-7, -2e-7])
    foreign = Tolerance(1e-5, 1e-3, relative_to_max=5e-6)
    assert not tensor_error(torch.zeros(2), wanted, foreign)[1]
    assert not tensor_error(1.001 * wanted, wanted, foreign)[1]
    assert tensor_error(wanted + 1e-11, wanted, foreign)[1]
    assert tensor_error(torch.full((2,), 1e-6), torch.zeros(2), foreign)[1]


def test_nan_equals_nan_alone_and_shapes_count() -> None:
    nan = torch.tensor([math.nan, 1.0])
    assert tensor_error(nan, nan, Tolerance()) == (0.0, True)
    assert not tensor_error(torch.tensor([0.0, 1.0]), nan, Tolerance(1.0, 1.0))[1]
    assert not tensor_error(torch.zeros(2, 1), torch.zeros(2), Tolerance(1.0, 1.0))[1]


def test_exact_values_say_where_they_differ() -> None:
    (result,) = exact_cases([("numbers", lambda: {"a": [1, 2]}, {"a": [1, 3]})])
    assert not result.ok
    assert result.detail == ".a[1]: 2 for 3"
    (result,) = exact_cases([("raises", lambda: 1 // 0, 0)])
    assert not result.ok
    assert "ZeroDivisionError" in result.detail


def test_tolerances_come_from_the_index() -> None:
    index = read_index(GOLDEN)
    golden = read_golden(GOLDEN, "stdit3_main.safetensors", index["stdit3_main.safetensors"])
    assert golden.tolerance("out") == Tolerance(relative_to_max=2e-5)
    foreign = {"out": {"atol": 2e-5, "rtol": 1e-4}, "grad": {"atol": 5e-6, "rtol": 1e-3}}
    entry = {"tolerance": {**foreign, "max_abs_over_tensor_max": 7e-6}}
    golden = read_golden(GOLDEN, "stdit3_main.safetensors", entry)
    assert golden.tolerance("grad/x") == Tolerance(5e-6, 1e-3, 7e-6)
    assert golden.tolerance("out") == Tolerance(2e-5, 1e-4, 7e-6)
    assert "video_xmask" in golden.cases
    assert "x_mask" in golden.inputs("video_xmask")
