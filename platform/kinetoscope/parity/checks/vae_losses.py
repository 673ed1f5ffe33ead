"""Golden files of the VAE's losses, its posterior, the adversarial losses and discriminators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.adversarial.config import (
    AdversarialLossConfig,
    PatchDiscriminatorConfig,
)
from kinetoscope.models.vae.adversarial.discriminators import build_discriminator
from kinetoscope.models.vae.adversarial.losses import (
    AdversarialLoss,
    LogitAverages,
    discriminator_loss,
    lecam_penalty,
    sigmoid_cross_entropy,
)
from kinetoscope.models.vae.config import VAELossConfig
from kinetoscope.models.vae.losses import VAELoss
from kinetoscope.parity.compare import CaseResult, tensor_cases
from kinetoscope.parity.golden import GoldenFile

_VAE_OPTIONS = {
    "perceptual_loss_weight": "perceptual_weight",
    "kl_loss_weight": "kl_weight",
    "logvar_init": "logvar_init",
}
_ADVERSARIAL_OPTIONS = {
    "discriminator_factor": "discriminator_factor",
    "discriminator_start": "start_step",
    "discriminator_loss_type": "discriminator_loss",
    "lecam_loss_weight": "lecam_weight",
    "gradient_penalty_loss_weight": "gradient_penalty_weight",
    "generator_factor": "generator_factor",
    "generator_loss_type": "generator_loss",
}
_PATCH_OPTIONS = {"input_nc": "in_channels", "ndf": "base_width", "n_layers": "num_layers"}


def check_vae_losses(golden: GoldenFile) -> Iterator[CaseResult]:
    """Run a file whose cases name their ``type`` in the config."""

    def compute(case: str) -> Mapping[str, Tensor]:
        kind = golden.case_config(case).get("type")
        if kind not in _CASES:
            raise ConfigError(f"no case type {kind!r}; known are {', '.join(_CASES)}")
        return _CASES[kind](golden, case)

    yield from tensor_cases(golden, compute)


def _vae(golden: GoldenFile, case: str) -> dict[str, Tensor]:
    config, inputs = golden.case_config(case), golden.inputs(case)
    calls = dict(config.get("call", {}))
    options = _options(config["init"], _VAE_OPTIONS, "kl_loss_weight", "perceptual_loss_weight")
    if calls.pop("no_perceptual", False):
        options["perceptual_weight"] = 0.0
    if calls:
        raise ConfigError(f"unknown arguments of the reference's loss: {', '.join(calls)}")
    losses = VAELoss(VAELossConfig(**options), _mean_square)
    prediction = inputs["x_rec"].clone().requires_grad_()
    moments = inputs["moments"].clone().requires_grad_()
    target, posterior = inputs["x"], Posterior.from_moments(moments)
    weights = _per_element(inputs.get("nll_weights"), target)
    terms = losses(prediction, target, posterior, weights=weights)
    kl = terms.pop("kl", torch.zeros(1)).mean()
    nll = sum(losses(prediction, target).values(), torch.zeros(())).mean()
    weighted = sum(terms.values(), torch.zeros(())).mean()
    (weighted + kl).backward()
    outputs = {
        "nll_loss": nll,
        "weighted_nll_loss": weighted,
        "weighted_kl_loss": kl,
        "grad_x_rec": prediction.grad,
        "grad_moments": torch.zeros_like(moments) if moments.grad is None else moments.grad,
        "posterior_mode": posterior.mode(),
        "posterior_kl": posterior.kl(),
        "posterior_nll_of_z": posterior.nll(inputs["z"]),
        "std": posterior.std,
        "var": posterior.var,
        "logvar": posterior.logvar,
    }
    return {name: value for name, value in outputs.items() if value is not None}


def _kl_of_two(golden: GoldenFile, case: str) -> dict[str, Tensor]:
    inputs = golden.inputs(case)
    moments = inputs["moments"]
    first, second = Posterior.from_moments(moments), Posterior.from_moments(inputs["moments_other"])
    return {
        "kl": first.kl(second),
        "kl_rev": second.kl(first),
        # The reference gives one 0 for the whole batch.
        "kl_deterministic": Posterior.from_moments(moments, deterministic=True).kl().amax()[None],
    }


def _functions(golden: GoldenFile, case: str) -> dict[str, Tensor]:
    inputs = golden.inputs(case)
    real, fake = inputs["real"], inputs["fake"]
    return {
        "hinge": discriminator_loss(real, fake, "hinge"),
        "vanilla": discriminator_loss(real, fake, "vanilla"),
        "sigmoid_ce_ones_real": sigmoid_cross_entropy(real, is_real=True),
        "sigmoid_ce_zeros_fake": sigmoid_cross_entropy(fake, is_real=False),
        "lecam_reg": lecam_penalty(
            real, fake, ema_real=inputs["ema_real"], ema_fake=inputs["ema_fake"]
        ),
    }


def _discriminator_loss(golden: GoldenFile, case: str) -> dict[str, Tensor]:
    config, inputs = golden.case_config(case), golden.inputs(case)
    losses = AdversarialLoss(_adversarial_config(config["init"]))
    for name, average in (("ema_real", losses.averages.real), ("ema_fake", losses.averages.fake)):
        average.copy_(inputs.get(name, average))
    real, pixels = inputs.get("real"), None
    if config.get("gp"):
        pixels = inputs["real_video"].clone().requires_grad_()
        real = pixels.flatten(2).mean(-1) @ inputs["gp_w"]
    if real is None:
        raise ConfigError(f"case {case} has neither logits nor pixels of real clips")
    terms = losses.discriminator(
        real, inputs["fake"], step=config["global_step"], real_pixels=pixels
    )
    none = torch.zeros(())
    return {
        "weighted_d_adversarial_loss": terms["discriminator"],
        "lecam_loss": terms.get("lecam", none),
        "gradient_penalty": terms.get("gradient_penalty", none),
    }


def _generator_loss(golden: GoldenFile, case: str) -> dict[str, Tensor]:
    config, inputs = golden.case_config(case), golden.inputs(case)
    last_layer = inputs["last_layer"].clone().requires_grad_()
    loss = AdversarialLoss(_adversarial_config(config["init"])).generator(
        inputs["a"] @ last_layer,
        (inputs["b"] @ last_layer).square().mean(),
        last_layer,
        step=config["global_step"],
    )
    return {"weighted_gen_loss": loss}


def _averages(golden: GoldenFile, case: str) -> dict[str, Tensor]:
    config, inputs = golden.case_config(case), golden.inputs(case)
    averages = LogitAverages(config["decay"], real=config["ema_real"], fake=config["ema_fake"])
    rows = []
    for real, fake in zip(inputs["real"], inputs["fake"], strict=True):
        averages.update(real, fake)
        rows.append(torch.stack((averages.real, averages.fake)))
    return {"trace": torch.stack(rows)}


def _patch_discriminator(golden: GoldenFile, case: str) -> dict[str, Tensor]:
    config = golden.case_config(case)
    kind = {"disc2d": "patch2d", "disc3d": "patch3d"}[config["type"]]
    options = _options(config["init"], _PATCH_OPTIONS)
    model = build_discriminator(PatchDiscriminatorConfig(kind=kind, **options)).eval()
    prefix = f"{case}/"
    model.load_state_dict(
        {
            name.removeprefix(prefix): tensor
            for name, tensor in golden.weights.items()
            if name.startswith(prefix)
        }
    )
    pixels = golden.inputs(case)["x"]
    with torch.no_grad():
        if kind == "patch2d":
            return {"logits": model(pixels.unsqueeze(2)).squeeze(2)}
        return {"logits": model(pixels)}


_CASES: dict[str, Callable[[GoldenFile, str], dict[str, Tensor]]] = {
    "vae": _vae,
    "kl2": _kl_of_two,
    "d_fn": _functions,
    "d_loss": _discriminator_loss,
    "g_loss": _generator_loss,
    "lecam_ema": _averages,
    "disc2d": _patch_discriminator,
    "disc3d": _patch_discriminator,
}


def _adversarial_config(init: Mapping[str, Any]) -> AdversarialLossConfig:
    # The reference writes None for a weight of 0, and -1 for a game from the first step on.
    weights = ("discriminator_factor", "lecam_loss_weight", "gradient_penalty_loss_weight")
    options = _options(init, _ADVERSARIAL_OPTIONS, *weights)
    options["start_step"] = max(0, options.get("start_step", 0))
    return AdversarialLossConfig(**options)


def _options(init: Mapping[str, Any], names: Mapping[str, str], *weights: str) -> dict[str, Any]:
    """Return the reference's options under our names; None among ``weights`` becomes 0."""
    if unknown := sorted(init.keys() - names.keys()):
        raise ConfigError(f"unknown options of the reference: {', '.join(unknown)}")
    zeros = {name: 0.0 for name in weights if name in init and init[name] is None}
    return {names[name]: value for name, value in {**init, **zeros}.items()}


def _mean_square(first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
    # What stood for LPIPS when the set was made.
    return (first_NCHW - second_NCHW).square().mean((1, 2, 3))


def _per_element(weights: Tensor | None, video_BCTHW: Tensor) -> Tensor | None:
    if weights is None:
        return None
    frames = rearrange(video_BCTHW, "B C T H W -> (B T) C H W")
    return rearrange(weights.expand_as(frames), "(B T) C H W -> B C T H W", B=video_BCTHW.shape[0])
