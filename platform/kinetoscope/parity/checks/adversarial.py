"""The golden cases of the adversarial losses and of the discriminators, in files `vae_losses`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kinetoscope.core.errors import ConfigError
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
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.model_cases import (
    Outputs,
    differentiable,
    gradients_of,
    mean_squares,
    run_model,
)

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


def _functions(golden: GoldenFile, case: str) -> Outputs:
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


def _discriminator_loss(golden: GoldenFile, case: str) -> Outputs:
    config = golden.case_config(case)
    leaves = differentiable(golden.inputs(case), golden.outputs(case), "grad_")
    inputs = {**golden.inputs(case), **leaves}
    losses = AdversarialLoss(_adversarial_config(config["init"]))
    for name, average in (("ema_real", losses.averages.real), ("ema_fake", losses.averages.fake)):
        average.copy_(inputs.get(name, average))
    real, pixels = inputs.get("real"), None
    if config.get("gp"):
        pixels = inputs["real_video"]
        pixels = pixels if pixels.requires_grad else pixels.clone().requires_grad_()
        real = pixels.flatten(2).mean(-1) @ inputs["gp_w"]
    if real is None:
        raise ConfigError(f"case {case} has neither logits nor pixels of real clips")
    terms = losses.discriminator(
        real, inputs["fake"], step=config["global_step"], real_pixels=pixels
    )
    if leaves:
        torch.stack(list(terms.values())).sum().backward()
    none = torch.zeros(())
    return {
        "weighted_d_adversarial_loss": terms["discriminator"],
        "lecam_loss": terms.get("lecam", none),
        "gradient_penalty": terms.get("gradient_penalty", none),
        **gradients_of(leaves, "grad_"),
    }


def _generator_loss(golden: GoldenFile, case: str) -> Outputs:
    config = golden.case_config(case)
    leaves = differentiable(golden.inputs(case), golden.outputs(case), "grad_")
    inputs = {**golden.inputs(case), **leaves}
    last_layer = inputs["last_layer"]
    last_layer = last_layer if last_layer.requires_grad else last_layer.clone().requires_grad_()
    loss = AdversarialLoss(_adversarial_config(config["init"])).generator(
        inputs["a"] @ last_layer,
        (inputs["b"] @ last_layer).square().mean(),
        last_layer,
        step=config["global_step"],
    )
    if leaves:
        loss.backward()
    return {"weighted_gen_loss": loss, **gradients_of(leaves, "grad_")}


def _averages(golden: GoldenFile, case: str) -> Outputs:
    config, inputs = golden.case_config(case), golden.inputs(case)
    averages = LogitAverages(config["decay"], real=config["ema_real"], fake=config["ema_fake"])
    rows = []
    for real, fake in zip(inputs["real"], inputs["fake"], strict=True):
        averages.update(real, fake)
        rows.append(torch.stack((averages.real, averages.fake)))
    return {"trace": torch.stack(rows)}


def _patch_discriminator(golden: GoldenFile, case: str) -> Outputs:
    config = golden.case_config(case)
    kind = {"disc2d": "patch2d", "disc3d": "patch3d"}[config["type"]]
    options = our_options(config["init"], _PATCH_OPTIONS)
    model = build_discriminator(PatchDiscriminatorConfig(kind=kind, **options))
    model.train(config.get("train", False))
    prefix = f"{case}/"
    model.load_state_dict(
        {
            name.removeprefix(prefix): tensor
            for name, tensor in golden.weights.items()
            if name.startswith(prefix)
        }
    )

    def forward(inputs: Mapping[str, Tensor]) -> Outputs:
        pixels = inputs["x"]
        if kind == "patch2d":
            return {"logits": model(pixels.unsqueeze(2)).squeeze(2)}
        return {"logits": model(pixels)}

    return run_model(model, golden.inputs(case), golden.outputs(case), forward, mean_squares)


CASES: dict[str, Callable[[GoldenFile, str], Outputs]] = {
    "d_fn": _functions,
    "d_loss": _discriminator_loss,
    "g_loss": _generator_loss,
    "lecam_ema": _averages,
    "disc2d": _patch_discriminator,
    "disc3d": _patch_discriminator,
}
"""By the ``type`` that a case names in the config."""


def _adversarial_config(init: Mapping[str, Any]) -> AdversarialLossConfig:
    # The reference writes None for a weight of 0, and -1 for a game from the first step on.
    weights = ("discriminator_factor", "lecam_loss_weight", "gradient_penalty_loss_weight")
    options = our_options(init, _ADVERSARIAL_OPTIONS, *weights)
    options["start_step"] = max(0, options.get("start_step", 0))
    return AdversarialLossConfig(**options)


def our_options(init: Mapping[str, Any], names: Mapping[str, str], *weights: str) -> dict[str, Any]:
    """Return the reference's options under our names; None among ``weights`` becomes 0.

    Raises:
        ConfigError: an option is not known.
    """
    if unknown := sorted(init.keys() - names.keys()):
        raise ConfigError(f"unknown options of the reference: {', '.join(unknown)}")
    zeros = {name: 0.0 for name in weights if name in init and init[name] is None}
    return {names[name]: value for name, value in {**init, **zeros}.items()}
