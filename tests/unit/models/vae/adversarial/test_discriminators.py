from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from kinetoscope.models.vae.adversarial.config import (
    PatchDiscriminatorConfig,
    StyleDiscriminatorConfig,
)
from kinetoscope.models.vae.adversarial.discriminators import build_discriminator, inflated

STYLE = StyleDiscriminatorConfig(base_width=4, multipliers=(1, 2), norm_groups=2)


def _patch(kind: str, **changes: int) -> PatchDiscriminatorConfig:
    return PatchDiscriminatorConfig.model_validate({"kind": kind, "base_width": 4} | changes)


def _seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("num_layers", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["patch2d", "patch3d"])
def test_the_least_size_gives_a_verdict_and_a_smaller_one_does_not(
    kind: str, num_layers: int
) -> None:
    config = _patch(kind, num_layers=num_layers, in_channels=1)
    model = build_discriminator(config).eval()
    assert model(torch.zeros(1, 1, *config.min_size)).shape == (1, 1, 1, 1, 1)
    for axis, least in enumerate(config.min_size):
        if least > 1:
            size = [n - (i == axis) for i, n in enumerate(config.min_size)]
            with pytest.raises(ValueError, match="needs clips of"):
                model(torch.zeros(1, 1, *size))


def test_the_2d_one_has_the_names_and_widths_of_pix2pix() -> None:
    model = build_discriminator(PatchDiscriminatorConfig())
    weights = {n: tuple(t.shape) for n, t in model.state_dict().items() if t.ndim == 4}
    assert weights == {
        "main.0.weight": (64, 3, 4, 4),
        "main.2.weight": (128, 64, 4, 4),
        "main.5.weight": (256, 128, 4, 4),
        "main.8.weight": (512, 256, 4, 4),
        "main.11.weight": (1, 512, 4, 4),
    }
    assert {"main.0.bias", "main.3.running_var", "main.11.bias"} <= model.state_dict().keys()
    assert "main.2.bias" not in model.state_dict()


def test_the_2d_one_judges_frames_one_by_one() -> None:
    model = build_discriminator(_patch("patch2d", num_layers=2)).eval()
    clip = _seeded(2, 3, 3, 16, 16)
    logits = model(clip)
    assert logits.shape == (2, 1, 3, 2, 2)
    for frame in range(3):
        alone = model(clip[:, :, frame : frame + 1])
        torch.testing.assert_close(logits[:, :, frame : frame + 1], alone)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_an_inflated_3d_one_begins_as_the_2d_one(num_layers: int) -> None:
    flat = build_discriminator(_patch("patch2d", num_layers=num_layers))
    flat.train()(_seeded(4, 3, 2, 32, 32))  # gives the norms statistics of their own
    solid = build_discriminator(_patch("patch3d", num_layers=num_layers))
    solid.load_state_dict(inflated(flat.state_dict(), solid))
    clip = _seeded(1, 3, 16, 32, 40)
    judged, single = solid.eval()(clip), flat.eval()(clip)
    # Index 2 of 4 taps, padding 1, looks one ahead: at every layer, the first of stride 2.
    frames = [2 * (frame + num_layers + 1) + 1 for frame in range(judged.shape[2])]
    assert len(frames) == 8 - num_layers - 1
    torch.testing.assert_close(judged, single[:, :, frames])


def test_weights_of_the_same_kind_are_not_changed_by_inflation() -> None:
    solid = build_discriminator(_patch("patch3d"))
    same = inflated(solid.state_dict(), solid)
    assert all(torch.equal(same[name], tensor) for name, tensor in solid.state_dict().items())


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 8, 8), (5, 9, 7), (17, 16, 16)])
def test_the_style_one_gives_clips_of_any_size_one_verdict(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = build_discriminator(STYLE)
    clips = _seeded(2, 3, *size).requires_grad_()
    logits = model(clips)
    assert logits.shape == (2, 1)
    torch.testing.assert_close(model(clips[1:]), logits[1:])
    (gradient,) = torch.autograd.grad(logits[0].sum(), clips)
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0


def test_its_blur_keeps_slow_signals_and_removes_the_fastest() -> None:
    pool = build_discriminator(STYLE).get_submodule("blocks.0.blur")
    columns = torch.arange(8.0).expand(1, 2, 4, 6, 8)
    halved = pool(columns)
    assert halved.shape == (1, 2, 2, 3, 4)
    torch.testing.assert_close(halved[..., 1:], columns[:, :, :2, :3, 2::2])
    alternating = pool(1 - 2 * (torch.arange(9.0) % 2).expand(1, 1, 3, 3, 9))
    torch.testing.assert_close(alternating[..., 1:-1], torch.zeros(1, 1, 2, 2, 3))


def test_groups_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match="norm_groups=3 must divide base_width=4"):
        StyleDiscriminatorConfig(base_width=4, norm_groups=3)
