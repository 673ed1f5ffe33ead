from __future__ import annotations

from pathlib import Path
from typing import Literal

import lpips
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import squeezenet1_1

from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.config import VAELossConfig
from kinetoscope.models.vae.losses import VAELoss, identity_loss, kl_loss, reconstruction_loss
from kinetoscope.models.vae.perceptual import PerceptualDistance


def mean_square(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().mean((1, 2, 3))


def test_a_sample_has_the_moments_of_its_posterior() -> None:
    posterior = Posterior(torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), -2.0))
    noise = torch.randn(20_000, 1, 1, generator=torch.Generator().manual_seed(0))
    samples = posterior.sample(noise)
    assert samples.mean().item() == pytest.approx(2.0, abs=0.01)
    assert samples.var().item() == pytest.approx(torch.tensor(-2.0).exp().item(), rel=0.03)


def test_mean_reduction_does_not_depend_on_the_size() -> None:
    config = VAELossConfig(
        l1_weight=0.2, mse_weight=1.0, kl_weight=1e-4, perceptual_weight=0.0, reduction="mean"
    )
    for size in ((2, 3, 1, 4, 4), (2, 3, 5, 8, 8)):
        target = torch.zeros(size)
        prediction = torch.full(size, 0.5)
        loss = reconstruction_loss(prediction, target, config)
        torch.testing.assert_close(loss, torch.full((2,), 0.2 * 0.5 + 0.25))
        posterior = Posterior(torch.ones(size), torch.zeros(size))
        torch.testing.assert_close(kl_loss(posterior, config), torch.full((2,), 0.5e-4))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses_of_half_precision_are_summed_in_fp32(reduction: Literal["mean", "sum"]) -> None:
    config = VAELossConfig(mse_weight=1.0, kl_weight=1.0, perceptual_weight=0, reduction=reduction)
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(3, 2, 4, 3, 8, 8, generator=generator).bfloat16()
    terms = VAELoss(config)(half[0], half[1], Posterior(half[1], half[2]))
    wide = half.float()
    expected = VAELoss(config)(wide[0], wide[1], Posterior(wide[1], wide[2]))
    torch.testing.assert_close(terms, expected)


def test_samples_do_not_mix() -> None:
    config = VAELossConfig(perceptual_weight=0.5)
    target = torch.zeros(2, 3, 2, 4, 4)
    prediction = target.clone()
    prediction[1] = 1.0
    terms = VAELoss(config, mean_square)(prediction, target)
    assert terms["reconstruction"].tolist() == [0.0, 48.0]
    assert terms["perceptual"].tolist() == [0.0, 24.0]
    assert "kl" not in terms


def test_the_target_gets_no_gradient() -> None:
    frame_latents = torch.ones(1, 4, 1, 2, 2, requires_grad=True)
    z = torch.zeros(1, 4, 1, 2, 2, requires_grad=True)
    identity_loss(z, frame_latents, VAELossConfig()).sum().backward()
    assert frame_latents.grad is None
    assert z.grad is not None
    assert z.grad.tolist() == (-torch.ones(1, 4, 1, 2, 2)).tolist()


def test_a_target_that_is_not_detached_gets_the_opposite_gradient() -> None:
    target = torch.ones(1, 4, 1, 2, 2, requires_grad=True)
    prediction = torch.zeros(1, 4, 1, 2, 2)
    reconstruction_loss(prediction, target, VAELossConfig(detach_target=False)).sum().backward()
    assert target.grad is not None
    assert (target.grad == 1).all()


@pytest.mark.parametrize("shape", [(), (2, 1, 5, 1, 1), (4, 6), (2, 3, 5, 4, 6)])
def test_the_likelihood_is_that_of_every_element(shape: tuple[int, ...]) -> None:
    """The reference's formula, element by element over frames folded into the batch."""
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 2, 3, 5, 4, 6)
    weights = torch.rand(shape)
    config = VAELossConfig(perceptual_weight=0.3, logvar_init=-0.4)
    terms = VAELoss(config, mean_square)(prediction, target, weights=weights)
    assert terms.keys() == {"reconstruction", "perceptual", "log_variance"}
    error = prediction - target
    distance = error.square().mean((1, 3, 4), keepdim=True)
    elements = (error.abs() + 0.3 * distance) / torch.tensor(-0.4).exp() - 0.4
    per_clip = (elements * weights).sum((1, 2, 3, 4)) / 5
    torch.testing.assert_close(sum(terms.values()), per_clip)


def test_a_learned_log_variance_settles_at_the_logarithm_of_the_error() -> None:
    config = VAELossConfig(perceptual_weight=0, learn_logvar=True, reduction="mean")
    losses = VAELoss(config)
    prediction, target = torch.full((2, 3, 2, 4, 4), 0.25), torch.zeros(2, 3, 2, 4, 4)
    optimizer = torch.optim.SGD(losses.parameters(), lr=0.5)
    for _ in range(40):
        optimizer.zero_grad()
        sum(losses(prediction, target).values()).sum().backward()
        optimizer.step()
    assert losses.logvar.value.item() == pytest.approx(torch.tensor(0.25).log().item(), abs=1e-3)


def test_a_fixed_log_variance_is_not_trained_and_costs_no_term_at_0() -> None:
    losses = VAELoss(VAELossConfig(perceptual_weight=0))
    assert not any(p.requires_grad for p in losses.parameters())
    assert losses(torch.ones(1, 3, 1, 2, 2), torch.zeros(1, 3, 1, 2, 2)).keys() == {
        "reconstruction"
    }


def test_a_kl_weight_of_0_leaves_the_posterior_alone() -> None:
    posterior = Posterior.from_moments(torch.randn(1, 8, 1, 2, 2, requires_grad=True))
    config = VAELossConfig(perceptual_weight=0, kl_weight=0)
    terms = VAELoss(config)(torch.ones(1, 3, 1, 4, 4), torch.zeros(1, 3, 1, 4, 4), posterior)
    assert terms.keys() == {"reconstruction"}


def test_a_deterministic_posterior_is_its_mean() -> None:
    posterior = Posterior.from_moments(torch.randn(2, 8, 1, 2, 2), deterministic=True)
    assert torch.equal(posterior.sample(torch.ones(2, 4, 1, 2, 2)), posterior.mean)
    assert posterior.std.abs().sum() == posterior.var.abs().sum() == 0
    assert posterior.kl().tolist() == posterior.nll(posterior.mean + 1).tolist() == [0.0, 0.0]
    assert Posterior.cat([posterior, posterior], dim=2).deterministic


def test_identity_loss_is_for_images_only() -> None:
    with pytest.raises(ValueError, match="for images"):
        identity_loss(torch.zeros(1, 4, 2, 2, 2), torch.zeros(1, 4, 8, 2, 2), VAELossConfig())


def test_a_perceptual_loss_without_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="vgg backbone") as error:
        VAELoss(VAELossConfig())
    assert error.value.hint is not None
    assert "perceptual_weights_path" in error.value.hint
    with pytest.raises(NotFoundError, match="no weight file at"):
        PerceptualDistance("vgg", "does/not/exist.pth")


@pytest.mark.filterwarnings("ignore:The parameter 'pretrained':UserWarning")
@pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning")
def test_lpips_with_a_local_backbone_equals_the_package(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = squeezenet1_1(weights=None)
    path = tmp_path / "squeezenet.safetensors"
    save_file(backbone.state_dict(), path)
    distance = PerceptualDistance("squeeze", str(path)).train()
    package = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
    for number in range(1, 8):
        for index, layer in getattr(package.net, f"slice{number}").named_children():
            layer.load_state_dict(backbone.features[int(index)].state_dict())
    first, second = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    first.requires_grad_()
    result = distance(first, second)
    torch.testing.assert_close(result, package(first, second).flatten())
    assert result.shape == (2,)
    assert (result > 0).all()
    assert distance(second, second).tolist() == [0.0, 0.0]
    result.sum().backward()
    assert first.grad is not None
    assert not any(p.requires_grad for p in distance.parameters())


def test_a_backbone_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match=r"lacks 49 of the 50 tensors"):
        PerceptualDistance("squeeze", str(path))
