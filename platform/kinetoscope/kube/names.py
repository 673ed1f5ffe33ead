"""What the chart's objects are called."""

from __future__ import annotations

_CHART = "kinetoscope"
_LONGEST_NAME = 63


def fullname_of(release: str) -> str:
    """Return what the objects of a release are named after."""
    name = release if _CHART in release else f"{release}-{_CHART}"
    return name[:_LONGEST_NAME].rstrip("-")
