from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kinetoscope.models.vae.adversarial.config import AdversarialKind, AdversarialLossConfig
from kinetoscope.models.vae.adversarial.losses import (
    AdversarialLoss,
    LogitAverages,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    lecam_penalty,
)

KINDS: list[AdversarialKind] = ["hinge", "vanilla", "non-saturating"]


def _gradient_of_generator(kind: AdversarialKind, logit: float) -> float:
    logits = torch.tensor([logit], requires_grad=True)
    (gradient,) = torch.autograd.grad(generator_loss(logits, kind), logits)
    return float(gradient)


@pytest.mark.parametrize("kind", KINDS)
def test_the_discriminator_wants_real_up_and_fake_down(kind: AdversarialKind) -> None:
    real, fake = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    loss = discriminator_loss(real, fake, kind)
    to_real, to_fake = torch.autograd.grad(loss, (real, fake))
    assert (to_real < 0).all()
    assert (to_fake > 0).all()
    assert loss.item() == pytest.approx(1.0 if kind == "hinge" else 0.6931, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_wants_its_logits_up(kind: AdversarialKind) -> None:
    assert _gradient_of_generator(kind, 0.3) < 0


def test_only_the_vanilla_generator_stalls_where_the_discriminator_is_sure() -> None:
    gradients = {kind: _gradient_of_generator(kind, -12.0) for kind in KINDS}
    assert gradients["vanilla"] == pytest.approx(0.0, abs=1e-4)
    assert gradients["hinge"] == pytest.approx(-1.0)
    assert gradients["non-saturating"] == pytest.approx(-1.0, abs=1e-4)


def test_lecam_punishes_logits_that_run_from_the_other_sides_average() -> None:
    averages = {"ema_real": torch.tensor(0.5), "ema_fake": torch.tensor(-0.5)}
    near = lecam_penalty(torch.tensor([-0.6]), torch.tensor([0.6]), **averages)
    far = lecam_penalty(torch.tensor([2.5]), torch.tensor([-1.5]), **averages)
    assert near.item() == 0.0
    assert far.item() == pytest.approx(3.0**2 + 2.0**2)


def test_averages_follow_the_mean_logits() -> None:
    averages = LogitAverages(0.75, real=1.0)
    averages.update(torch.tensor([3.0, 7.0]), torch.tensor([[-4.0]]))
    assert (averages.real.item(), averages.fake.item()) == (2.0, -1.0)
    assert averages.state_dict().keys() == {"real", "fake"}


def test_the_gradient_penalty_is_0_at_slope_1_and_can_be_trained() -> None:
    slope = torch.tensor([0.6, 0.8], requires_grad=True)
    pixels = torch.ones(3, 2, requires_grad=True)
    assert gradient_penalty(pixels, pixels @ slope).item() == pytest.approx(0.0, abs=1e-6)
    steep = gradient_penalty(pixels, pixels @ (3 * slope))
    assert steep.item() == pytest.approx(4.0)
    (gradient,) = torch.autograd.grad(steep, slope)
    assert gradient.tolist() == pytest.approx([12 * 0.6, 12 * 0.8])


def test_the_adaptive_weight_balances_the_gradients_and_has_a_limit() -> None:
    layer = torch.ones(4, requires_grad=True)
    weight = adaptive_weight(6 * layer.sum(), 2 * layer.sum(), layer)
    assert weight.item() == pytest.approx(3.0, rel=1e-3)
    assert not weight.requires_grad
    assert adaptive_weight(9 * layer.sum(), 1e-9 * layer.sum(), layer).item() == 1e4


def _play(step: int, **changes: Any) -> tuple[Tensor, dict[str, Tensor]]:
    losses = AdversarialLoss(AdversarialLossConfig(**changes))
    layer = torch.full((1,), 2.0, requires_grad=True)
    pixels = torch.ones(2, 3, requires_grad=True)
    generator = losses.generator(torch.ones(2) * layer, layer.sum(), layer, step=step)
    terms = losses.discriminator(
        pixels.sum(1), torch.full((2,), 2.0), step=step, real_pixels=pixels
    )
    return generator, terms


def test_the_game_begins_at_its_first_step() -> None:
    weights = {"lecam_weight": 1.0, "gradient_penalty_weight": 1.0}
    before, early = _play(4, start_step=5, **weights)
    assert before.item() == 0.0
    assert early["discriminator"].item() == 0.0
    generator, terms = _play(5, start_step=5, **weights)
    assert early["lecam"] == terms["lecam"]
    assert early["gradient_penalty"] == terms["gradient_penalty"]
    assert generator.item() == pytest.approx(0.5 * -2.0, rel=1e-3)
    assert terms["discriminator"].item() == pytest.approx(1.5)
    assert terms["lecam"].item() == pytest.approx(9.0)
    assert terms["gradient_penalty"].item() == pytest.approx((3**0.5 - 1) ** 2, rel=1e-5)


def test_factors_and_the_fixed_weight() -> None:
    generator, terms = _play(0, discriminator_factor=0.1, generator_factor=3.0, adaptive=False)
    assert generator.item() == pytest.approx(0.1 * 3.0 * -2.0)
    assert terms.keys() == {"discriminator"}
    assert terms["discriminator"].item() == pytest.approx(0.15)


def test_a_gradient_penalty_without_pixels_is_refused() -> None:
    losses = AdversarialLoss(AdversarialLossConfig(gradient_penalty_weight=1.0))
    with pytest.raises(ValueError, match="needs real_pixels"):
        losses.discriminator(torch.zeros(1), torch.zeros(1), step=0)
