"""Putting saved tensors back into the model that they came from."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from kinetoscope.core.errors import CorruptError

_NAMES_SHOWN = 5


def restore_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy saved weights into a model, in its own dtype, device and memory format.

    Args:
        model: of the config that the weights were saved with.
        weights: all tensors of its state dict, by name.

    Raises:
        CorruptError: names or shapes differ; nothing was copied then.
    """
    own = model.state_dict()
    differing = {
        "missing": sorted(own.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - own.keys()),
        "of another shape": [
            f"{name} {list(weights[name].shape)} for {list(own[name].shape)}"
            for name in sorted(own.keys() & weights.keys())
            if own[name].shape != weights[name].shape
        ],
    }
    told = [
        f"{len(names)} {what} ({', '.join(names[:_NAMES_SHOWN])})"
        for what, names in differing.items()
        if names
    ]
    if told:
        raise CorruptError(
            f"the saved weights do not fit {type(model).__name__}: {'; '.join(told)}"
        )
    model.load_state_dict(dict(weights))
