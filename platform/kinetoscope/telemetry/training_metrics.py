"""The Prometheus metrics of a training step (names and labels are a contract with dashboards)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import Histogram

from kinetoscope.telemetry.step_metrics import StepMetrics

# From a laptop's 20 ms to a large model's minutes.
_STEP_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)


@dataclass(frozen=True, slots=True)
class StepFigures:
    """One optimizer step, over all ranks.

    Attributes:
        seconds: wall time, without waiting for data.
        data_wait_seconds: time that was spent waiting for batches.
        num_samples: clips or images.
        num_tokens: positions that the model attends to; 0 where that has no meaning.
        losses: by kind; ``total`` is what was minimised.
        grad_norm: before clipping.
        learning_rate: of this step.
    """

    seconds: float
    data_wait_seconds: float
    num_samples: int
    num_tokens: int
    losses: Mapping[str, float]
    grad_norm: float
    learning_rate: float


class TrainingMetrics(StepMetrics):
    """Metrics of a training step; local rank 0 serves them.

    Args:
        run: id of the run.
        stage: name of the step.
        info: labels of ``kino_run_info``.
    """

    def __init__(self, run: str, stage: str, *, info: Mapping[str, str] | None = None) -> None:
        super().__init__(run, stage, info=info)
        self._loss = self._gauge("kino_train_loss", "Loss of the last step", "kind")
        self._step_seconds = Histogram(
            "kino_train_step_seconds",
            "Wall time of a step",
            ("run", "stage"),
            registry=self.registry,
            buckets=_STEP_SECONDS,
        ).labels(**self._values)
        self._steps = self._counter("kino_train_steps_total", "Optimizer steps done")
        self._samples = self._counter("kino_train_samples_total", "Samples trained on")
        self._tokens = self._counter("kino_train_tokens_total", "Tokens trained on")
        self._grad_norm = self._gauge("kino_train_grad_norm", "Gradient norm before clipping")
        self._rate = self._gauge("kino_train_learning_rate", "Learning rate of the last step")
        self._data_wait = self._counter(
            "kino_train_data_wait_seconds_total", "Seconds that training waited for batches"
        )
        self._last_step = self._gauge(
            "kino_train_last_step_timestamp_seconds", "When the last step ended (Unix time)"
        )
        self._add_health()
        self._add_checkpoints()

    def step(self, figures: StepFigures) -> None:
        """Record an optimizer step."""
        for kind, value in figures.losses.items():
            self._set(self._loss, value, kind=kind)
        self._step_seconds.observe(figures.seconds)
        self._steps.inc()
        self._samples.inc(figures.num_samples)
        self._tokens.inc(figures.num_tokens)
        self._set(self._grad_norm, figures.grad_norm)
        self._set(self._rate, figures.learning_rate)
        self._data_wait.inc(figures.data_wait_seconds)
        self._set(self._last_step, time.time())

    def nonfinite(self) -> None:
        """Count a step whose loss or gradient was not finite."""
        self._nonfinite.inc()

    def rank_imbalance(self, ratio: float) -> None:
        """Set slowest over mean compute time of the ranks in the last step (1 is balanced)."""
        self._set(self._imbalance, ratio)

    def goodput(self, ratio: float) -> None:
        """Set the share of wall time that was spent on steps that were kept."""
        self._set(self._goodput, ratio)

    def gpu_memory(self, kind: str, num_bytes: int) -> None:
        """Set GPU memory in use: kind ``allocated``, ``reserved`` or ``peak``."""
        self._set(self._gpu_memory, num_bytes, kind=kind)

    def checkpoint(self, seconds: Mapping[str, float], num_bytes: int | None = None) -> None:
        """Record a committed checkpoint.

        Args:
            seconds: by phase, e.g. ``{"write": 0.4}``.
            num_bytes: its size, where known.
        """
        for phase, value in seconds.items():
            self._set(self._checkpoint_seconds, value, phase=phase)
        if num_bytes is not None:
            self._set(self._checkpoint_bytes, num_bytes)
        self._set(self._checkpoint_success, time.time())

    def _add_health(self) -> None:
        self._imbalance = self._gauge(
            "kino_train_rank_imbalance_ratio", "Slowest over mean compute time of the ranks"
        )
        self._nonfinite = self._counter(
            "kino_train_nonfinite_total", "Steps with a loss or gradient that was not finite"
        )
        self._goodput = self._gauge(
            "kino_train_goodput_ratio", "Share of wall time spent on steps that were kept"
        )
        self._gpu_memory = self._gauge("kino_gpu_memory_bytes", "GPU memory", "kind")

    def _add_checkpoints(self) -> None:
        self._checkpoint_seconds = self._gauge(
            "kino_checkpoint_seconds", "Time that the last checkpoint took", "phase"
        )
        self._checkpoint_success = self._gauge(
            "kino_checkpoint_last_success_timestamp_seconds",
            "When the last checkpoint was committed (Unix time)",
        )
        self._checkpoint_bytes = self._gauge("kino_checkpoint_bytes", "Size of a checkpoint")
