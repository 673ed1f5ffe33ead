"""The Prometheus metrics of a step's process, on a registry and a port of their own."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from threading import Event, Thread
from typing import Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_log = logging.getLogger(__name__)

# Two of the chart's scrape intervals.
LAST_SCRAPE_SECONDS = 30.0

_LABELS = ("run", "stage")
_LOOPBACK = "127.0.0.1"
_ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 (compared with, not bound to)
_POLL_SECONDS = 0.2


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
        self._served_at = 0.0
        self._is_looked_for = False
        self._url = ""
        self._scrapes = _Scrapes()
        self.registry.register(self._scrapes)
        labels = {**self._values, **(info or {})}
        Gauge("kino_run_info", "What runs; always 1", tuple(labels), registry=self.registry).labels(
            **labels
        ).set(1)
        self._progress = self._gauge("kino_stage_progress_ratio", "Share of the step that is done")

    def progress(self, ratio: float) -> None:
        """Set the share of the step that is done, in [0, 1]."""
        self._set(self._progress, ratio)

    def scores(self, values: Mapping[str, float]) -> None:
        """Set what the step found, by name, once: the figures of its result."""
        found = self._gauge("kino_eval_score", "What the step found", "metric")
        for name, value in values.items():
            self._set(found, value, metric=name)

    def serve(self, port: int = 0, address: str = _LOOPBACK) -> str:
        """Serve the metrics over HTTP from a daemon thread.

        Metrics never end a step: where the port is taken, a free one is, with a warning. Metrics
        that are served already stay where they are.

        Args:
            port: 0 takes a free one.
            address: to listen on.

        Returns:
            The URL to scrape.
        """
        if self._serving is not None:
            return self._url
        choices = dict.fromkeys([(address, port), (address, 0), (_LOOPBACK, 0)])
        *wanted, last = choices
        for host, number in wanted:
            try:
                url = self._listen(host, number)
            except OSError as error:
                _log.warning(
                    "metrics port %d of %s can't be used (%s): taking a free one, which Prometheus "
                    "will not look at",
                    number,
                    host,
                    error,
                )
            else:
                self._is_looked_for = (host, number) == (address, port) and port != 0
                return url
        return self._listen(*last)

    def wait_for_last_scrape(self, give_up: Callable[[], bool]) -> bool:
        """Let Prometheus see the last values: wait until they were read once more, at most 30 s.

        Only where it looks, at the fixed port that was asked for; and not where nobody has read
        anything within the first minute. A step that is over between two scrapes would leave no
        trace there otherwise.

        Args:
            give_up: polled meanwhile; true ends the wait, e.g. that the step was told to stop.

        Returns:
            Whether they were read.
        """
        is_short = time.monotonic() - self._served_at < 2 * LAST_SCRAPE_SECONDS
        if self._serving is None or not self._is_looked_for or give_up():
            return False
        if not is_short and not self._scrapes.count:
            return False
        return self.wait_for_scrape(LAST_SCRAPE_SECONDS, give_up)

    def wait_for_scrape(self, timeout_seconds: float, give_up: Callable[[], bool]) -> bool:
        """Wait until the metrics have been read once more; tell whether they were.

        Args:
            timeout_seconds: to wait at the most.
            give_up: polled meanwhile; true ends the wait.
        """
        self._scrapes.seen.clear()
        deadline = time.monotonic() + timeout_seconds
        while not self._scrapes.seen.wait(_POLL_SECONDS):
            if give_up() or time.monotonic() >= deadline:
                return False
        time.sleep(_POLL_SECONDS)  # they were gathered; the answer is still on its way
        return True

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

    def _listen(self, address: str, port: int) -> str:
        server, thread = start_http_server(port, address, self.registry)
        self._serving = (server, thread)
        self._served_at = time.monotonic()
        host = _own_address() if address in _ANY_ADDRESS else address
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics"
        return self._url

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, (*_LABELS, *labels), registry=self.registry)

    def _set(self, gauge: Gauge, value: float, **labels: str) -> None:
        # The series appears with its first value: what was never measured is not 0.
        gauge.labels(**self._values, **labels).set(value)

    def _counter(self, name: str, text: str) -> Counter:
        return self._counter_family(name, text).labels(**self._values)

    def _counter_family(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, (*_LABELS, *labels), registry=self.registry)


class _Scrapes(Collector):
    """Has no series; notes that all series were gathered."""

    def __init__(self) -> None:
        self.seen = Event()
        self.count = 0

    def describe(self) -> Iterator[Metric]:
        """Return nothing: there are no series."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Note the scrape."""
        self.count += 1
        self.seen.set()
        return iter(())


def _own_address() -> str:
    """Return the address by which others reach this machine or pod."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return _LOOPBACK


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
