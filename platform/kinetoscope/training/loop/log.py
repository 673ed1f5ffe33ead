"""What a training step tells the outside: Prometheus, the metrics log, the progress line."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch

from kinetoscope.core.settings import metrics_endpoint
from kinetoscope.models.device import compute_device
from kinetoscope.steps.rank_environment import RankEnvironment
from kinetoscope.telemetry.step_metrics import LAST_SCRAPE_SECONDS
from kinetoscope.telemetry.training_metrics import StepFigures, TrainingMetrics
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.loop.outcome import StepOutcome
from kinetoscope.training.loop.reporter import Outlet

_log = logging.getLogger(__name__)


class StepLog:
    """Reports of one rank: all that a step tells of its training.

    Args:
        config: of the loop.
        ranks: which rank this is; local rank 0 serves the metrics.
        metrics: for Prometheus; closed with this log.
        outlet: takes progress and rows; what only rank 0 may say is for it to drop.
        stop: tells whether this rank was told to stop.
    """

    def __init__(
        self,
        config: TrainLoopConfig,
        ranks: RankEnvironment,
        metrics: TrainingMetrics,
        outlet: Outlet,
        *,
        stop: Callable[[], bool],
    ) -> None:
        self._config = config
        self._ranks = ranks
        self._metrics = metrics
        self._outlet = outlet
        self._stop = stop
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._wait_seconds = self._useful_seconds = 0.0
        self._window_started = self._step_started = time.monotonic()
        self._kept = 0
        self._info: dict[str, float] = {}

    def begin(self, first_step: int, kept: Mapping[str, Any]) -> None:
        """Serve metrics, go on with the row that was begun, and say where training begins."""
        self._metrics.progress(first_step / self._config.num_steps)
        if self._ranks.own_local_rank == 0:
            address, port = metrics_endpoint()
            self._outlet.publish_metrics_url(self._metrics.serve(port, address))
        self._sums.update(kept.get("sums", {}))
        self._counts.update(kept.get("counts", {}))
        self._step_started = time.monotonic()
        self._window_started = self._step_started - kept.get("seconds", 0.0)
        self._kept = first_step
        self._tell_progress(first_step)

    def waited(self, seconds: float) -> None:
        """Note the time that the next step waited for its batches; the step begins now."""
        self._wait_seconds = seconds
        self._step_started = time.monotonic()

    def stepped(self, number: int, outcome: StepOutcome, *, lr: float) -> None:
        """Report a finished optimizer step (``number`` counts from 0)."""
        done = number + 1
        seconds = time.monotonic() - self._step_started
        self._metrics.step(
            StepFigures(
                seconds=seconds,
                data_wait_seconds=self._wait_seconds,
                num_samples=outcome.num_samples,
                num_tokens=outcome.num_tokens,
                losses={"total": outcome.loss, **outcome.parts},
                grad_norm=outcome.grad_norm,
                learning_rate=lr,
            )
        )
        self._useful_seconds += seconds
        self._metrics.goodput(self._useful_seconds / self._outlet.elapsed_seconds)
        if outcome.rank_imbalance is not None:
            self._metrics.rank_imbalance(outcome.rank_imbalance)
        self._metrics.progress(done / self._config.num_steps)
        self._info = {"loss": round(outcome.loss, 5)}
        self._tell_progress(done)
        self._add("train.loss", outcome.loss)
        self._add("train.grad_norm", outcome.grad_norm)
        self._add("train.data_wait_seconds", self._wait_seconds)
        self._add("train.step_seconds", seconds)
        for name, value in outcome.parts.items():
            self._add(f"train.{name}", value)
        self._sums["samples"] += outcome.num_samples
        if done % self._config.log_every_steps == 0 or done == self._config.num_steps:
            self._flush(done, lr)

    def before_save(self) -> dict[str, Any]:
        """Bring the rows to safety; return what the next one, which is begun, has so far."""
        self._outlet.keep_metrics()
        seconds = time.monotonic() - self._window_started if self._counts else 0.0
        return {"sums": dict(self._sums), "counts": dict(self._counts), "seconds": seconds}

    def saved(self, step: int, seconds: float, num_bytes: int) -> None:
        """Report a checkpoint after ``step`` optimizer steps."""
        self._kept = step
        self._tell_progress(step)
        self._metrics.checkpoint({"write": seconds}, num_bytes)

    def nonfinite(self) -> None:
        """Report a step whose loss or gradient is not finite, after which training ends.

        Where Prometheus looks (a fixed port), it is given the time to see that. All ranks wait, and
        the first that goes makes the supervisor tell the others to stop.
        """
        self._metrics.nonfinite()
        _, port = metrics_endpoint()
        if port:
            self._metrics.wait_for_scrape(LAST_SCRAPE_SECONDS, self._stop)

    def finished(self) -> None:
        """Report that training is at its end: as after `nonfinite`, Prometheus is to see that."""
        self._metrics.wait_for_last_scrape(self._stop)

    def close(self) -> None:
        """Stop serving metrics."""
        self._metrics.close()

    def _tell_progress(self, done: int) -> None:
        self._outlet.progress(done, self._config.num_steps, "steps", kept=self._kept, **self._info)

    def _add(self, name: str, value: float) -> None:
        self._sums[name] += value
        self._counts[name] += 1

    def _flush(self, done: int, lr: float) -> None:
        report_gpu_memory(self._metrics, compute_device(self._ranks.own_local_rank))
        seconds = time.monotonic() - self._window_started
        means = {name: self._sums[name] / count for name, count in self._counts.items()}
        means["train.learning_rate"] = lr
        means["train.samples_per_second"] = self._sums["samples"] / max(seconds, 1e-9)
        self._outlet.log_metrics(means, step=done)
        if self._ranks.rank == 0:
            _log.info(
                "step %6d / %d  loss %.5f  grad %.3f  lr %.2e  %.1f samples/s  wait %.0f ms",
                done,
                self._config.num_steps,
                means["train.loss"],
                means["train.grad_norm"],
                lr,
                means["train.samples_per_second"],
                1000 * means["train.data_wait_seconds"],
            )
        self._sums.clear()
        self._counts.clear()
        self._window_started = time.monotonic()


def report_gpu_memory(metrics: TrainingMetrics, device: torch.device) -> None:
    """Tell what this process has of a GPU's memory; of another device there is nothing to tell."""
    if device.type == "cuda":
        metrics.gpu_memory("allocated", torch.cuda.memory_allocated(device))
        metrics.gpu_memory("reserved", torch.cuda.memory_reserved(device))
        metrics.gpu_memory("peak", torch.cuda.max_memory_allocated(device))
