"""The Prometheus metrics of a step's process, on a registry and a port of their own."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Thread
from typing import Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    start_http_server,
)

_LABELS = ("run", "stage")


class StepMetrics:
    """What every step exports; the labels ``run`` and ``stage`` are on every series.

    Labels never hold a step number, a path or a prompt, so that the number of series stays small.

    Args:
        run: id of the run.
        stage: name of the step, e.g. ``train_dit_1``.
        info: labels of ``kino_run_info``, e.g. recipe and version.
    """

    def __init__(self, run: str, stage: str, *, info: Mapping[str, str] | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._values = {"run": run, "stage": stage}
        self._serving: tuple[WSGIServer, Thread] | None = None
        labels = {**self._values, **(info or {})}
        Gauge("kino_run_info", "What runs; always 1", tuple(labels), registry=self.registry).labels(
            **labels
        ).set(1)
        self._progress = self._gauge("kino_stage_progress_ratio", "Share of the step that is done")

    def progress(self, ratio: float) -> None:
        """Set the share of the step that is done, in [0, 1]."""
        self._set(self._progress, ratio)

    def serve(self, port: int = 0, address: str = "127.0.0.1") -> str:
        """Serve the metrics over HTTP from a daemon thread.

        Args:
            port: 0 takes a free one.
            address: to listen on.

        Returns:
            The URL to scrape.
        """
        server, thread = start_http_server(port, address, self.registry)
        self._serving = (server, thread)
        return f"http://{address}:{server.server_port}/metrics"

    def close(self) -> None:
        """Stop serving; nothing happens when nothing is served."""
        if self._serving is not None:
            server, thread = self._serving
            server.shutdown()
            server.server_close()
            thread.join()
            self._serving = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, (*_LABELS, *labels), registry=self.registry)

    def _set(self, gauge: Gauge, value: float, **labels: str) -> None:
        # The series appears with its first value: what was never measured is not 0.
        gauge.labels(**self._values, **labels).set(value)

    def _counter(self, name: str, text: str) -> Counter:
        return self._counter_family(name, text).labels(**self._values)

    def _counter_family(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, (*_LABELS, *labels), registry=self.registry)


class DataMetrics(StepMetrics):
    """Metrics of prepare_data."""

    def __init__(self, run: str, stage: str, *, info: Mapping[str, str] | None = None) -> None:
        super().__init__(run, stage, info=info)
        self._clips = self._counter_family(
            "kino_data_clips_total", "Clips by what became of them", "outcome", "reason"
        )

    def clips(self, outcome: str, reason: str = "", count: int = 1) -> None:
        """Count clips, e.g. ``clips("quarantined", "truncated")``; reasons are a fixed few."""
        self._clips.labels(**self._values, outcome=outcome, reason=reason).inc(count)


class EvaluationMetrics(StepMetrics):
    """Metrics of the evaluation steps."""

    def __init__(self, run: str, stage: str, *, info: Mapping[str, str] | None = None) -> None:
        super().__init__(run, stage, info=info)
        self._scores = self._gauge("kino_eval_score", "Scores of the evaluation", "metric")

    def score(self, metric: str, value: float) -> None:
        """Set a score, e.g. ``score("vae.psnr", 31.2)``."""
        self._set(self._scores, value, metric=metric)
