"""What the golden file at hand does not show: other sets of the losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kinetoscope.models.vae.adversarial.config import PatchDiscriminatorConfig
from kinetoscope.models.vae.adversarial.discriminators import build_discriminator
from kinetoscope.parity.checks.vae_losses import check_vae_losses
from kinetoscope.parity.compare import CaseResult
from kinetoscope.parity.golden import GoldenFile, Tolerance


def _check(config: dict[str, Any], **tensors: Tensor) -> CaseResult:
    golden = GoldenFile(
        name="vae_losses.safetensors",
        kind="vae_losses",
        config={"cases": {"a": config}},
        tolerances={"out": Tolerance(1e-5, 1e-5)},
        tensors={name.replace("__", "/"): tensor for name, tensor in tensors.items()},
    )
    (result,) = check_vae_losses(golden)
    return result


def _vae(call: dict[str, Any], init: dict[str, Any], nll: Tensor | None = None) -> CaseResult:
    torch.manual_seed(0)
    x, x_rec = torch.randn(2, 2, 3, 2, 4, 4)
    frames = (x - x_rec).transpose(1, 2).flatten(0, 1)
    broadcast = frames.abs() + 0.8 * frames.square().mean((1, 2, 3), keepdim=True)
    expected = broadcast.sum() / 4 if nll is None else nll
    return _check(
        {"type": "vae", "init": init, "call": call},
        in__a__x=x,
        in__a__x_rec=x_rec,
        in__a__moments=torch.randn(2, 8, 1, 2, 2),
        in__a__z=torch.randn(2, 4, 1, 2, 2),
        out__a__nll_loss=expected,
        out__a__weighted_nll_loss=expected,
        out__a__weighted_kl_loss=torch.zeros(()),
    )


INIT = {"perceptual_loss_weight": 0.8, "kl_loss_weight": None, "logvar_init": 0.0}


def test_a_set_that_calls_the_perceptual_stub_is_right() -> None:
    assert _vae({"no_perceptual": False}, INIT).ok
    assert _vae({}, INIT).ok
    assert not _vae({"no_perceptual": True}, INIT).ok


def test_2d_discriminators_are_understood() -> None:
    model = build_discriminator(PatchDiscriminatorConfig(base_width=4, num_layers=2)).eval()
    frames = torch.randn(2, 3, 16, 24)
    weights = {f"weights__a__{name}": tensor for name, tensor in model.state_dict().items()}
    init = {"input_nc": 3, "ndf": 4, "n_layers": 2}
    logits = model.get_submodule("main")(frames).detach()
    tensors = {"in__a__x": frames, "out__a__logits": logits, **weights}
    assert _check({"type": "disc2d", "init": init}, **tensors).ok
    assert not _check({"type": "disc2d", "init": init | {"ndf": 8}}, **tensors).ok


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"type": "other"}, "no case type 'other'"),
        ({"type": "g_loss", "init": {"surprise": 1}, "global_step": 0}, "surprise"),
    ],
)
def test_what_is_not_understood_fails_with_its_name(config: dict[str, Any], told: str) -> None:
    one = torch.ones(1, 1)
    result = _check(config, in__a__last_layer=one, in__a__a=one, in__a__b=one)
    assert not result.ok
    assert told in result.detail
    assert "surprise" in _vae({"surprise": 1}, INIT).detail
