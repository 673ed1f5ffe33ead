"""Where the weights of a transformer come from when its training begins."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.weights.files import open_weights
from kinetoscope.models.weights.open_sora.load import load_stdit_weights
from kinetoscope.models.weights.report import LoadReport


def start_transformer(
    model: STDiT, path: str, layout: Literal["auto", "stdit", "pixart"]
) -> LoadReport:
    """Set a transformer from a weight file or folder that others made.

    Args:
        model: initialised; changed in place. What the weights have no place for stays as it is.
        path: see `open_weights`.
        layout: STDiT's or PixArt's; ``auto`` looks at the names.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the file is damaged, or the weights do not fit.
    """
    return load_stdit_weights(model, open_weights(Path(path)), layout=layout)
