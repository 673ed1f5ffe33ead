"""Running a model on golden inputs: outputs, gradients, and the errors of bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from statistics import geometric_mean

import torch
from torch import Tensor, nn

from kinetoscope.parity.compare import CaseResult, attempt, tensor_cases
from kinetoscope.parity.golden import GoldenFile

Outputs = dict[str, Tensor]
Compute = Callable[[str, Collection[str]], Mapping[str, Tensor]]
"""Gives our outputs of a case by the reference's names; its second argument is what is wanted."""

ONE_OUTPUT_SLACK, ONE_GRADIENT_SLACK = 1.5, 4.0
"""How many times the reference's bfloat16 error one output, one parameter's gradient may have:
rounding is random, and a tensor is a small sample. Their mean over the outputs is at most 1."""


def model_cases(golden: GoldenFile, compute: Compute) -> Iterator[CaseResult]:
    """Compare every case, then those in bfloat16 of which the file has the reference's errors.

    In bfloat16 (autocast), outputs may be as far from our own float32 as the reference's are from
    its own: in the geometric mean, `ONE_OUTPUT_SLACK` times as far at most, and single gradients
    `ONE_GRADIENT_SLACK` times.
    """
    yield from tensor_cases(golden, lambda case: compute(case, golden.outputs(case)))
    for case in golden.cases:
        if allowed := golden.bf16_errors(case):

            def check(case: str = case, allowed: Mapping[str, float] = allowed) -> CaseResult:
                exact = compute(case, allowed)
                with torch.autocast(golden.device.type, torch.bfloat16):
                    rounded = compute(case, allowed)
                return _bf16_result(f"{case} bf16", rounded, exact, allowed)

            yield attempt(f"{case} bf16", check)


def run_model(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    wanted: Collection[str],
    forward: Callable[[Mapping[str, Tensor]], Outputs],
    loss: Callable[[Outputs], Tensor],
) -> Outputs:
    """Return a model's outputs and, where one is wanted, loss and gradients.

    Args:
        model: whose parameters' gradients are ``grad/<name>``, their norms ``grad_norm/<name>``.
        inputs: of the case.
        wanted: names of the outputs; ``grad_in/<name>`` is the gradient of an input.
        forward: gives the outputs from the inputs.
        loss: gives, from the outputs, what is differentiated, as ``loss``.
    """
    if not any(name.startswith(("grad", "loss")) for name in wanted):
        with torch.no_grad():
            return forward(inputs)
    leaves = differentiable(inputs, wanted)
    outputs = forward({**inputs, **leaves})
    value = loss({name: output.float() for name, output in outputs.items()})
    with torch.autocast(value.device.type, enabled=False):
        value.backward()
    outputs |= {"loss": value, **gradients_of(leaves)}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            outputs[f"grad/{name}"] = parameter.grad
            outputs[f"grad_norm/{name}"] = parameter.grad.norm()
    return {name: output.detach() for name, output in outputs.items()}


def differentiable(
    inputs: Mapping[str, Tensor], wanted: Collection[str], prefix: str = "grad_in/"
) -> Outputs:
    """Return copies, which require gradients, of the inputs whose gradients are wanted."""
    return {
        name: tensor.clone().requires_grad_()
        for name, tensor in inputs.items()
        if prefix + name in wanted
    }


def gradients_of(leaves: Mapping[str, Tensor], prefix: str = "grad_in/") -> Outputs:
    """Return the gradients of `differentiable` inputs; zeros where nothing depended on one."""
    return {
        prefix + name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for name, leaf in leaves.items()
    }


def mean_squares(outputs: Mapping[str, Tensor]) -> Tensor:
    """Return the sum over outputs of their mean squares: the loss of the golden gradients."""
    return torch.stack([output.square().mean() for output in outputs.values()]).sum()


def _bf16_result(
    case: str,
    rounded: Mapping[str, Tensor],
    exact: Mapping[str, Tensor],
    allowed: Mapping[str, float],
) -> CaseResult:
    single = [name for name in sorted(allowed) if name.startswith("grad/")]
    shares, used = {}, dict[str, float]()
    for name, reference in allowed.items():
        parts = single if name == "grad" else [name]
        ours, wanted = _joined(rounded, parts), _joined(exact, parts)
        shares[name] = float((ours - wanted).norm() / wanted.norm()) / reference
        slack = ONE_GRADIENT_SLACK if name in single else ONE_OUTPUT_SLACK
        used[name] = shares[name] / slack
    used["the mean"] = geometric_mean(shares[name] for name in shares if name not in single)
    worst = max(used, key=used.__getitem__)
    ok = used[worst] <= 1
    detail = "" if ok else f"{worst} is off by {used[worst]:.3g} times what is allowed"
    return CaseResult(case, used[worst], "1 x the reference's bf16", ok=ok, detail=detail)


def _joined(outputs: Mapping[str, Tensor], names: Collection[str]) -> Tensor:
    return torch.cat([outputs[name].detach().double().flatten() for name in names])
