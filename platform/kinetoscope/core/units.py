"""Units: seconds are floats, sizes are int bytes, GiB means 2**30."""

from __future__ import annotations

import time

KIB = 2**10
MIB = 2**20
GIB = 2**30


def format_bytes(num_bytes: int) -> str:
    """Return e.g. ``3.2 GiB``."""
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"


def format_utc(seconds: float) -> str:
    """Return seconds since the epoch as e.g. ``2026-11-23 18:05:31 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def format_seconds(seconds: float) -> str:
    """Return e.g. ``0.4s``, ``52s``, ``3m 12s`` or ``2h 05m``."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s"
