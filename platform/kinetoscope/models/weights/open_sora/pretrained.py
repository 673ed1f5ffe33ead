"""Starting STDiT from weights that others made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor

from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.weights.open_sora.load import Layout, load_transformer_weights
from kinetoscope.models.weights.report import LoadReport


def load_pretrained(model: STDiT, weights: Mapping[str, Tensor], *, layout: str) -> LoadReport:
    """Load STDiT's or PixArt's weights; see `models.base.load_pretrained`."""
    return load_transformer_weights(model, weights, layout=cast(Layout, layout))
