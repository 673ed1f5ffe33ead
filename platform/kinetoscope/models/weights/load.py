"""Loading weights into a model by name.

Loading is strict: names and shapes must agree unless the caller allows a difference. Weights may be
any mapping of tensors by name; with `tensor_files.open_weights` a model is loaded tensor by tensor
and needs memory for itself alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from kinetoscope.models.weights.report import Difference, LoadReport, compare_weights

M = TypeVar("M", bound=nn.Module)


def load_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    allow: Collection[Difference] = (),
    is_new: Callable[[str], bool] | None = None,
) -> LoadReport:
    """Copy tensors into a model by name, in the model's own dtype, device and memory format.

    Args:
        model: takes the weights; untouched when they do not fit.
        weights: floating-point tensors by the model's names.
        allow: differences that let the load pass; what is not loaded keeps its initial value.
        is_new: tells which missing tensors the weights' layout has no place for.

    Raises:
        ConfigError: the weights do not fit.
    """
    own = model.state_dict()
    report = compare_weights(own, weights, is_new=is_new)
    report.require(type(model).__name__, allow)
    skipped = {mismatch.name for mismatch in report.mismatched}
    with torch.no_grad():
        for name in weights:
            if name in own and name not in skipped:
                own[name].copy_(weights[name])
    return report


def load_model(
    build: Callable[[], M], weights: Mapping[str, Tensor], allow: Collection[Difference] = ()
) -> M:
    """Build a model with weights; without its initial draws where the weights give every tensor.

    Args:
        build: makes the model, on whatever device is current.
        weights: tensors by the model's names.
        allow: differences that let the load pass; what is not loaded keeps its initial value.

    Raises:
        ConfigError: the weights do not fit.
    """
    with torch.device("meta"):
        model = build()
    own = model.state_dict()
    report = compare_weights(own, weights)
    report.require(type(model).__name__, allow)
    unsaved = {name for name, _ in model.named_buffers()} - own.keys()
    if report.missing or report.mismatched or unsaved:
        model = build()
        load_weights(model, weights, allow=allow)
        return model
    loaded = {}
    for name in weights:
        if name in own:
            # The model's own order of memory: channels last in the VAEs.
            empty = torch.empty_strided(own[name].shape, own[name].stride(), dtype=own[name].dtype)
            loaded[name] = empty.copy_(weights[name])
    model.load_state_dict(loaded, strict=False, assign=True)
    return model
