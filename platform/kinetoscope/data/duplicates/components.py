"""Which nodes of a graph hang together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]


def components(count: int, first: Indices, second: Indices) -> Indices:
    """Label each of ``count`` nodes with the smallest node that the edges lead to.

    Labels are hooked under smaller ones, and their paths shortened, until no edge joins two labels
    (Shiloach and Vishkin, "An O(log n) Parallel Connectivity Algorithm", 1982).
    """
    label = np.arange(count)
    while (differ := label[first] != label[second]).any():
        one, other = label[first[differ]], label[second[differ]]
        np.minimum.at(label, np.maximum(one, other), np.minimum(one, other))
        while (label != label[label]).any():
            label = label[label]
    return label
