"""Golden files of the VAE's losses, its posterior, the adversarial losses and discriminators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from einops import rearrange
from torch import Tensor

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.config import VAELossConfig
from kinetoscope.models.vae.losses import VAELoss
from kinetoscope.parity.checks import adversarial
from kinetoscope.parity.compare import CaseResult, tensor_cases
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.model_cases import Outputs, differentiable, gradients_of

_VAE_OPTIONS = {
    "perceptual_loss_weight": "perceptual_weight",
    "kl_loss_weight": "kl_weight",
    "logvar_init": "logvar_init",
}


def check_vae_losses(golden: GoldenFile) -> Iterator[CaseResult]:
    """Run a file whose cases name their ``type`` in the config."""

    def compute(case: str) -> Mapping[str, Tensor]:
        kind = golden.case_config(case).get("type")
        if kind not in _CASES:
            raise ConfigError(f"no case type {kind!r}; known are {', '.join(_CASES)}")
        return _CASES[kind](golden, case)

    yield from tensor_cases(golden, compute)


def _vae(golden: GoldenFile, case: str) -> Outputs:
    config, wanted = golden.case_config(case), golden.outputs(case)
    calls = dict(config.get("call", {}))
    options = adversarial.our_options(
        config["init"], _VAE_OPTIONS, "kl_loss_weight", "perceptual_loss_weight"
    )
    options["learn_logvar"] = "grad_logvar" in wanted
    if calls.pop("no_perceptual", False):
        options["perceptual_weight"] = 0.0
    if calls:
        raise ConfigError(f"unknown arguments of the reference's loss: {', '.join(calls)}")
    losses = VAELoss(VAELossConfig(**options), _mean_square)
    leaves = differentiable(golden.inputs(case), wanted, "grad_")
    inputs = {**golden.inputs(case), **leaves}
    prediction, target = inputs["x_rec"], inputs["x"]
    posterior = Posterior.from_moments(inputs["moments"])
    weights = _per_element(inputs.get("nll_weights"), target)
    terms = losses(prediction, target, posterior, weights=weights)
    kl = terms.pop("kl", torch.zeros(1)).mean()
    nll = sum(losses(prediction, target).values(), torch.zeros(())).mean()
    weighted = sum(terms.values(), torch.zeros(())).mean()
    if (weighted + kl).requires_grad:
        (weighted + kl).backward()
    logvar = losses.logvar.value.grad
    outputs = {
        "nll_loss": nll,
        "weighted_nll_loss": weighted,
        "weighted_kl_loss": kl,
        **gradients_of(leaves, "grad_"),
        **({} if logvar is None else {"grad_logvar": logvar}),
    }
    return outputs | _of_posterior(inputs["moments"].detach(), inputs["z"], inputs.get("noise"))


def _of_posterior(moments: Tensor, z: Tensor, noise: Tensor | None) -> Outputs:
    moments = moments.requires_grad_()
    posterior = Posterior.from_moments(moments)
    nll = posterior.nll(z)
    outputs = {
        "posterior_mode": posterior.mode(),
        "posterior_kl": posterior.kl(),
        "posterior_nll_of_z": nll,
        "std": posterior.std,
        "var": posterior.var,
        "logvar": posterior.logvar,
        "grad_moments_of_nll": torch.autograd.grad(nll.sum(), moments, retain_graph=True)[0],
    }
    if noise is not None:
        sample = posterior.sample(noise)
        (slope,) = torch.autograd.grad(sample.square().sum(), moments)
        outputs |= {"sample": sample, "grad_moments_of_sample": slope}
    return outputs


def _kl_of_two(golden: GoldenFile, case: str) -> Outputs:
    leaves = differentiable(golden.inputs(case), golden.outputs(case), "grad_")
    inputs = {**golden.inputs(case), **leaves}
    moments = inputs["moments"]
    first, second = Posterior.from_moments(moments), Posterior.from_moments(inputs["moments_other"])
    kl = first.kl(second)
    if leaves:
        kl.sum().backward()
    return {
        "kl": kl,
        "kl_rev": second.kl(first),
        # The reference gives one 0 for the whole batch.
        "kl_deterministic": Posterior.from_moments(moments, deterministic=True).kl().amax()[None],
        **gradients_of(leaves, "grad_"),
    }


_CASES: dict[str, Callable[[GoldenFile, str], Outputs]] = {
    "vae": _vae,
    "kl2": _kl_of_two,
    **adversarial.CASES,
}


def _mean_square(first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
    # What stood for LPIPS when the set was made.
    return (first_NCHW - second_NCHW).square().mean((1, 2, 3))


def _per_element(weights: Tensor | None, video_BCTHW: Tensor) -> Tensor | None:
    if weights is None:
        return None
    frames = rearrange(video_BCTHW, "B C T H W -> (B T) C H W")
    return rearrange(weights.expand_as(frames), "(B T) C H W -> B C T H W", B=video_BCTHW.shape[0])
