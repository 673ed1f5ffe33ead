"""Runs of equal rows in sorted columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def run_starts(*columns: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which rows of sorted columns differ from the row before; the first does."""
    starts = np.zeros(len(columns[0]), dtype=bool)
    starts[:1] = True
    for column in columns:
        starts[1:] |= column[1:] != column[:-1]
    return starts
