from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny.models import transformer
from torch import Tensor, nn

from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.stdit.model import STDiT

GOLDEN = Path(__file__).parents[3] / "golden" / "reference"
MAIN_CASES = [
    "video",
    "video_xmask",
    "image_odd",
    "hw_fps",
    "hw_not_square_root",
    "no_text_mask",
    "cfg_mask_repeat",
    "fps_repeat",
    "xmask_all_false",
    "skip_y_embedder",
]
CASES = [("stdit3_main", case) for case in MAIN_CASES] + [
    ("stdit3_variant", "video"),
    ("stdit3_variant", "video_xmask_odd"),
]
GRADIENT_CASES = [
    ("stdit3_main", "video"),
    ("stdit3_main", "video_xmask"),
    ("stdit3_variant", "video_xmask_odd"),
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Golden:
    """One case of a golden file: its inputs in our form, and what the reference made of them."""

    def __init__(self, name: str, case: str) -> None:
        with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
            self.config = _config(json.loads(file.metadata()["config"])["model"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no iterator
        self.weights = _below(tensors, "weights/")
        self.given = _below(tensors, f"in/{case}/")
        self.out = _below(tensors, f"out/{case}/")
        # Text of three axes was projected and packed already.
        self.packed = self.given["y"].ndim == 3

    def model(self, make: Callable[[STDiTConfig], nn.Module] = STDiT, **changes: Any) -> nn.Module:
        config = {"skip_text_embedder": self.packed, **changes}
        model = make(self.config.model_copy(update=config))
        model.load_state_dict(self.weights)
        return model.eval()

    def run(self, model: nn.Module, **changes: Any) -> Tensor:
        given, mask = self.given, self.given.get("mask")
        inputs: dict[str, Any] = {
            "height_B": given["height"],
            "width_B": given["width"],
            "fps_B": given["fps"],
            "frame_mask_Bt": given.get("x_mask"),
            **changes,
        }
        if self.packed:
            text, inputs["text_lengths"] = given["y"], mask
        else:
            text, inputs["text_mask_BS"] = given["y"][:, 0], mask
        output: Tensor = model(given["x"], given["timestep"], text, **inputs)
        return output


def _eager() -> Callable[[STDiTConfig], nn.Module]:
    """The plain implementation that benchmarks compare with."""
    path = Path(__file__).parents[4] / "benchmarks" / "eager" / "stdit.py"
    spec = spec_from_file_location("eager_stdit", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    make: Callable[[STDiTConfig], nn.Module] = module.EagerSTDiT
    return make


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _config(reference: dict[str, Any]) -> STDiTConfig:
    return STDiTConfig(
        depth=reference["depth"],
        width=reference["hidden_size"],
        num_heads=reference["num_heads"],
        in_channels=reference["in_channels"],
        mlp_ratio=reference["mlp_ratio"],
        predict_sigma=reference["pred_sigma"],
        qk_norm=reference["qk_norm"],
        text_width=reference["caption_channels"],
        max_text_tokens=reference["model_max_length"],
        input_sq_size=reference["input_sq_size"],
    )


@pytest.mark.parametrize(("name", "case"), CASES)
def test_forward_equals_the_reference(name: str, case: str) -> None:
    golden = Golden(name, case)
    with torch.no_grad():
        output = golden.run(golden.model())
    torch.testing.assert_close(output, golden.out["out"], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_eager_baseline_equals_the_reference(name: str, case: str) -> None:
    golden = Golden(name, case)
    with torch.no_grad():
        output = golden.run(golden.model(_eager()))
    torch.testing.assert_close(output, golden.out["out"], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize(("name", "case"), GRADIENT_CASES)
def test_gradients_equal_the_reference(name: str, case: str, checkpointing: str) -> None:
    golden = Golden(name, case)
    model = golden.model(activation_checkpointing=checkpointing)
    golden.given["x"].requires_grad_(True)
    loss = golden.run(model).square().mean()
    loss.backward()

    torch.testing.assert_close(loss.detach(), golden.out["loss"], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        golden.given["x"].grad, golden.out["grad_in/x"], atol=5e-6, rtol=1e-3
    )
    gradients = {
        key: parameter.grad
        for key, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    checked = 0
    for key, expected in golden.out.items():
        kind, _, parameter = key.partition("/")
        if kind not in ("grad", "grad_norm"):
            continue
        gradient = gradients[parameter]
        assert gradient is not None
        actual = gradient if kind == "grad" else gradient.norm()
        torch.testing.assert_close(actual, expected, atol=5e-6, rtol=1e-3)
        checked += 1
    assert checked > len(gradients)


def test_full_size_model_has_the_released_state_dict() -> None:
    released = json.loads((GOLDEN / "keys_stdit3_xl2.json").read_text())
    with torch.device("meta"):
        model = STDiT(STDiTConfig())

    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    assert shapes == released["keys"]
    assert sum(p.numel() for p in parameters.values()) == released["total_parameters"]
    frozen = [key for key, parameter in parameters.items() if not parameter.requires_grad]
    assert frozen == released["parameters_without_grad"]


def test_fresh_model_has_the_reference_zeros() -> None:
    released = json.loads((GOLDEN / "keys_stdit3_xl2.json").read_text())
    state = STDiT(transformer()).state_dict()
    zeros = {key for key, tensor in state.items() if not tensor.any()}
    expected = released["zero_initialised_weights_depth1"]
    assert zeros == {*expected, *released["zero_initialised_biases_depth1"]}
