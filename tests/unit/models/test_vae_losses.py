from __future__ import annotations

import json
from pathlib import Path

import lpips
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import squeezenet1_1

from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.models.config import VAELossConfig
from kinetoscope.models.perceptual import PerceptualDistance
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae_losses import VAELoss, identity_loss, kl_loss, reconstruction_loss
from kinetoscope.models.weight_files import read_state_dict

GOLDEN = Path(__file__).parents[2] / "golden/reference/vae_losses.safetensors"

with safe_open(GOLDEN, "pt") as _file:
    TENSORS = {key: _file.get_tensor(key) for key in _file.keys()}  # noqa: SIM118
    CASES = json.loads(_file.metadata()["config"])["cases"]

# The reference's scalar log-variance is never trained and stays 0; we have none.
PLAIN = [
    name
    for name, case in CASES.items()
    if case["type"] == "vae" and case["init"]["logvar_init"] == 0 and "nll_weights" not in name
]


def mean_square(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().mean((1, 2, 3))


def sum_config(case: str) -> VAELossConfig:
    # Every case was recorded with no_perceptual, also those that index.json's note says call LPIPS.
    assert CASES[case]["call"] == {"no_perceptual": True}
    return VAELossConfig(kl_weight=CASES[case]["init"]["kl_loss_weight"], perceptual_weight=0.0)


@pytest.mark.parametrize("case", PLAIN)
def test_terms_and_gradients_equal_the_reference(case: str) -> None:
    prediction = TENSORS[f"in/{case}/x_rec"].clone().requires_grad_()
    moments = TENSORS[f"in/{case}/moments"].clone().requires_grad_()
    terms = VAELoss(sum_config(case))(
        prediction, TENSORS[f"in/{case}/x"], Posterior.from_moments(moments)
    )
    kl = terms.pop("kl", torch.zeros(()))
    nll = torch.stack(list(terms.values())).sum(0)
    assert nll.shape == prediction.shape[:1]
    expected = {name: TENSORS[f"out/{case}/{name}"] for name in ("nll_loss", "weighted_kl_loss")}
    torch.testing.assert_close(nll.mean(), expected["nll_loss"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(kl.mean(), expected["weighted_kl_loss"], atol=1e-5, rtol=1e-5)
    (nll.mean() + kl.mean()).backward()
    for value, name in ((prediction, "grad_x_rec"), (moments, "grad_moments")):
        if f"out/{case}/{name}" in TENSORS:
            golden = TENSORS[f"out/{case}/{name}"]
            torch.testing.assert_close(value.grad, golden, atol=1e-5, rtol=1e-5)


def test_the_golden_cases_cover_what_they_should() -> None:
    assert {"video_T17", "image_T1", "stub_perceptual", "batch1_moments_extreme"} <= set(PLAIN)


@pytest.mark.parametrize("case", [name for name in CASES if CASES[name]["type"] == "vae"])
def test_posterior_equals_the_reference(case: str) -> None:
    posterior = Posterior.from_moments(TENSORS[f"in/{case}/moments"])
    actual = {
        "posterior_kl": posterior.kl(),
        "posterior_nll_of_z": posterior.nll(TENSORS[f"in/{case}/z"]),
        "posterior_mode": posterior.mode(),
        "std": posterior.std,
        "var": posterior.var,
        "logvar": posterior.logvar,
    }
    for name, value in actual.items():
        torch.testing.assert_close(value, TENSORS[f"out/{case}/{name}"], atol=1e-5, rtol=1e-5)


def test_kl_between_two_posteriors_equals_the_reference() -> None:
    first = Posterior.from_moments(TENSORS["in/kl_two/moments"])
    second = Posterior.from_moments(TENSORS["in/kl_two/moments_other"])
    torch.testing.assert_close(first.kl(second), TENSORS["out/kl_two/kl"])
    torch.testing.assert_close(second.kl(first), TENSORS["out/kl_two/kl_rev"])


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


class _Surprise:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("opened",))


def test_torch_files_are_read_without_running_code(tmp_path: Path) -> None:
    good, bad, nested = tmp_path / "good.pth", tmp_path / "bad.pth", tmp_path / "nested.pth"
    torch.save({"a": torch.ones(2)}, good)
    torch.save({"a": _Surprise()}, bad)
    torch.save({"model": {"a": torch.ones(2)}}, nested)
    assert read_state_dict(good)["a"].tolist() == [1.0, 1.0]
    with pytest.raises(ConfigError, match="more than tensors"):
        read_state_dict(bad)
    with pytest.raises(ConfigError, match="flat table"):
        read_state_dict(nested)


def test_damaged_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(b"not a weight file")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        read_state_dict(path)
