"""Aspect ratios that Open-Sora 1.2 lets users name (``opensora/datasets/aspect.py``, v1.2.0)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ASPECT_RATIO_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "3:8": "0.38",
        "9:21": "0.43",
        "12:25": "0.48",
        "1:2": "0.50",
        "9:17": "0.53",
        "27:50": "0.54",
        "9:16": "0.56",
        "5:8": "0.62",
        "2:3": "0.67",
        "3:4": "0.75",
        "1:1": "1.00",
        "4:3": "1.33",
        "3:2": "1.50",
        "16:9": "1.78",
        "17:9": "1.89",
        "2:1": "2.00",
        "50:27": "2.08",
    }
)
"""Height to width, and its key in the tables of sizes, in the reference's order.

Its ``50:27`` stands for 2.08, which is 25:12; `frame_size` takes it for the 1.85 that it is.
"""
