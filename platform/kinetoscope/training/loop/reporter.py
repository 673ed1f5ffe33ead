"""What the trainer tells of its steps, and where that goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from kinetoscope.training.loop.outcome import StepOutcome


class Reporter(Protocol):
    """Hears of every step of one rank."""

    def begin(self, first_step: int, kept: Mapping[str, Any]) -> None:
        """Hear where training begins, before the first batch is asked for.

        Args:
            first_step: counts from 0.
            kept: what `before_save` returned for the checkpoint that training goes on from.
        """
        ...

    def waited(self, seconds: float) -> None:
        """Note the time that the next step waited for its batches; the step begins now."""
        ...

    def stepped(self, number: int, outcome: StepOutcome, *, lr: float) -> None:
        """Report a finished optimizer step (``number`` counts from 0)."""
        ...

    def before_save(self) -> dict[str, Any]:
        """Bring to safety what no later attempt will report again; return what it goes on from.

        Raises:
            StorageError: that is not possible now; a checkpoint would leave a gap in the reports.
        """
        ...

    def saved(self, step: int, seconds: float, num_bytes: int) -> None:
        """Report a checkpoint after ``step`` optimizer steps."""
        ...

    def nonfinite(self) -> None:
        """Report a step whose loss or gradient is not finite, after which training ends."""
        ...

    def finished(self) -> None:
        """Report that the last step is done and saved."""
        ...

    def close(self) -> None:
        """Let go of what the reports were served with."""
        ...


class Outlet(Protocol):
    """Takes what a rank has to say; a step's context is one."""

    @property
    def elapsed_seconds(self) -> float:
        """Wall time since this process began its work."""
        ...

    def progress(
        self,
        done: float,
        total: float,
        unit: str = ...,
        *,
        kept: float | None = ...,
        **info: float | str,
    ) -> None:
        """Say how far the work is; ``kept`` is as much as a later attempt goes on from."""
        ...

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Add a row of metrics."""
        ...

    def keep_metrics(self) -> None:
        """Bring all rows to where they outlive this process's machine."""
        ...

    def publish_metrics_url(self, url: str) -> None:
        """Say where this rank serves Prometheus metrics."""
        ...
