"""Where the smoke job's trainer tells what it does: the log, and the job's report."""

from __future__ import annotations

import logging
import time

_log = logging.getLogger("kinetoscope.smoke")


class SmokeOutlet:
    """Logs progress and keeps the rows of metrics for the report.

    Args:
        rank: of this process.
    """

    def __init__(self, rank: int) -> None:
        self.rows: list[dict[str, float]] = []
        self.metrics_url: str | None = None
        self._rank = rank
        self._started = time.monotonic()

    @property
    def elapsed_seconds(self) -> float:
        """Wall time so far."""
        return time.monotonic() - self._started

    def progress(
        self,
        done: float,
        total: float,
        unit: str = "",
        *,
        kept: float | None = None,
        **info: float | str,
    ) -> None:
        """Log that a step is done; of rank 0's the trainer's own log tells more."""
        del unit, kept  # steps, of which nobody goes on
        if done and self._rank:
            values = ", ".join(f"{name} {value}" for name, value in info.items())
            _log.info("step %d of %d: %s", done, total, values)

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Keep a row: one of every step, on every rank."""
        del step  # rows come in order
        self.rows.append(values)

    def keep_metrics(self) -> None:
        """Do nothing: nobody goes on after these rows."""

    def publish_metrics_url(self, url: str) -> None:
        """Keep where this rank serves metrics."""
        self.metrics_url = url
