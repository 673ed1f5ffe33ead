"""Why a video can't be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kinetoscope.data.config import LimitsConfig

Reason = Literal[
    "zero_length",
    "unreadable",
    "no_video_stream",
    "truncated",
    "too_few_frames",
    "too_large",
    "hostile",
]


class QuarantinedError(Exception):
    """A video can't be used.

    Args:
        reason: one word for counting.
        detail: one sentence with the numbers.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


def timeout_detail(limits: LimitsConfig) -> str:
    """Say that a file took too long."""
    return f"not decoded within {limits.timeout_seconds:g} s (timeout_seconds)"
