"""The worker's side of the contract: what a rank is given, and how its end is told."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from kinetoscope.core.errors import (
    ExitCode,
    KinetoscopeError,
    NotFoundError,
)
from kinetoscope.core.full_disk import disk_full_error
from kinetoscope.core.settings import metrics_endpoint, rank_variables
from kinetoscope.steps.contract import (
    JOINED,
    Progress,
    Report,
    RuntimeConfig,
    StepResult,
    StepSpec,
    VideosInput,
    attempt_key,
    read_spec,
)
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.lifeline import exit_with_starter
from kinetoscope.steps.rank_environment import read_rank_environment
from kinetoscope.steps.repeating import persist
from kinetoscope.steps.results import artifact_at, commit_result, upstream_result
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore
from kinetoscope.telemetry.logging_setup import setup_logging
from kinetoscope.telemetry.step_metrics import StepMetrics

_PROGRESS_INTERVAL_SECONDS = 0.5
# How long a result waits for the store: all that it needs is there.
_COMMIT_SECONDS = 3600.0


@dataclass(frozen=True)
class Outputs:
    """What a step made.

    Args:
        artifacts: name to key, or key prefix, in the step's store.
        metrics: flat figures, e.g. ``{"vae.psnr": 33.1}``.
        summary: plain JSON for people and reports.
    """

    artifacts: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


class StepContext:
    """A rank's view of its step."""

    def __init__(self, spec: StepSpec, *, generation: int, attempt_path: Path) -> None:
        self.name = spec.name
        self.uri = spec.uri
        self.run_id = spec.run_id
        self.generation = generation
        self.config = spec.config
        self.seed = spec.seed
        self.runtime: RuntimeConfig = spec.runtime
        self.fingerprint = spec.fingerprint
        self.origin = spec.origin
        self.ranks = read_rank_environment(rank_variables())
        self.rank, self.world_size = self.ranks.rank, self.ranks.world_size
        self.local_rank = self.ranks.own_local_rank
        self.root_store: ObjectStore = open_store(spec.root_uri)
        self.store: ObjectStore = open_store(spec.uri)
        self._spec = spec
        self.inputs = {
            name: upstream_result(name, join_uri(spec.root_uri, key))
            for name, key in spec.inputs.items()
        }
        self.scratch = attempt_path / f"scratch-{self.rank}"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.store)
        self.log = logging.getLogger(f"kinetoscope.{spec.name}")
        self._attempt_path = attempt_path
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._progress_at = 0.0
        self._began: float | None = None
        self._metrics: StepMetrics | None = None

    @property
    def videos(self) -> str:
        """Where the source videos lie: an absolute path, or a URI."""
        return self._spec.videos_place

    @property
    def videos_input(self) -> VideosInput:
        """The source videos, as the run was started with; raises ``NotFoundError``."""
        if self._spec.videos is None:
            raise NotFoundError(f"step {self.name} was given no videos")
        return self._spec.videos

    @property
    def stop_requested(self) -> bool:
        """Whether this rank was told to stop."""
        return self._stop.is_set()

    def request_stop(self) -> None:
        """Tell this rank to stop."""
        self._stop.set()

    @property
    def elapsed_seconds(self) -> float:
        """Wall time of this attempt so far."""
        return time.monotonic() - self._started

    def superseded_check(self) -> None:
        """Raise ``SupersededError`` when a later attempt has taken over."""
        self.ledger.check(self.generation)

    def join(self, generation: int) -> None:
        """Take part in an attempt, which a rank of a further node hears of from rank 0."""
        self.generation = generation
        if self.local_rank == 0:
            self._leave(JOINED, str(generation).encode())

    def progress(
        self,
        done: float,
        total: float,
        unit: str = "items",
        *,
        kept: float | None = None,
        **info: float | str,
    ) -> None:
        """Say how far the step is; cheap enough for every item.

        Args:
            done: of ``total``, in ``unit``.
            total: all that there is to do.
            unit: what is counted.
            kept: as much of ``done`` as a later attempt goes on from; None: all.
            info: what else is worth a look.
        """
        now = time.monotonic()
        kept = done if kept is None else kept
        self._began = kept if self._began is None else self._began
        due = now - self._progress_at >= _PROGRESS_INTERVAL_SECONDS or done >= total
        if self.local_rank == 0 and due:
            self._progress_at = now
            progress = Progress(
                done=done, total=total, unit=unit, info=info, kept=kept, began=self._began
            )
            self._leave("progress.json", progress.to_bytes())
            if self._metrics is not None and total:
                self._metrics.progress(done / total)

    def waiting(self) -> None:
        """Say that this rank waits for others, for as long as it takes: that is no stall."""
        with suppress(OSError):
            (self._attempt_path / "waiting").touch()

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Add a row to the attempt's metrics, which tracking mirrors."""
        if self.rank == 0:
            row = {"step": step, "time": time.time(), "metrics": values}
            with (self._attempt_path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def keep_metrics(self) -> None:
        """Bring the rows of metrics to the store, for good.

        The supervisor ships them now and then. When its machine fails, what it had not shipped is
        gone, and an attempt that goes on after these rows never makes them again. They get a key
        of their own: an older copy that the supervisor is just uploading could come later.
        """
        path = self._attempt_path / "metrics.jsonl"
        if self.rank == 0 and path.exists():
            self.store.put_file(f"{attempt_key(self.generation)}/kept/metrics.jsonl", path)

    def serve(self, metrics: StepMetrics) -> None:
        """Serve Prometheus metrics from this process, which tell of the step to its very end.

        Local rank 0 serves them, with the step's progress and at its end what it found.
        """
        if self.local_rank == 0:
            self._metrics = metrics
            address, port = metrics_endpoint()
            self.publish_metrics_url(metrics.serve(port, address))

    def tell_last_metrics(self, found: dict[str, float]) -> None:
        """Set what the step found; give Prometheus the time to see it, unless told to stop."""
        if self._metrics is not None:
            self._metrics.progress(1.0)
            self._metrics.scores(found)
            self._metrics.wait_for_last_scrape(lambda: self.stop_requested)
            self._metrics.close()

    def publish_metrics_url(self, url: str) -> None:
        """Say where this rank serves Prometheus metrics."""
        self._leave("metrics_url", url.encode())

    def commit(self, outputs: Outputs) -> None:
        """Commit the step's result, as soon as the store answers; only the latest attempt may."""
        persist(partial(self._commit, outputs), seconds=_COMMIT_SECONDS)

    def _commit(self, outputs: Outputs) -> None:
        result = StepResult(
            step=self.name,
            fingerprint=self.fingerprint,
            generation=self.generation,
            artifacts={k: artifact_at(self.store, k, key) for k, key in outputs.artifacts.items()},
            metrics=outputs.metrics,
            summary=outputs.summary,
            seconds=self.elapsed_seconds,
        )
        commit_result(self.store, self.ledger, result)

    def leave_report(self, report: Report) -> None:
        """Leave the reason of a failure for the supervisor; on a full disk the code tells it."""
        with suppress(OSError):
            self._leave(f"report-{self.rank}.json", report.to_bytes())

    def _leave(self, name: str, data: bytes) -> None:
        unfinished = self._attempt_path / f".{name}-{self.rank}"
        unfinished.write_bytes(data)
        unfinished.replace(self._attempt_path / name)


def run_worker(
    main: Callable[[StepContext], Outputs | None], *, has_metrics: bool = False
) -> NoReturn:
    """Run a worker's ``main`` as this process's rank and exit with the code of its end.

    Args:
        main: rank 0 returns the outputs, which are committed here; the other ranks return None.
        has_metrics: whether it serves metrics of its own; else those of every step are served.
    """
    setup_logging()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    exit_with_starter()
    ctx = StepContext(
        read_spec(os.environ["KINO_SPEC_URI"]),
        # A further node's ranks hear of the attempt from rank 0 (`StepContext.join`).
        generation=int(os.environ.get("KINO_GENERATION", "0")),
        attempt_path=Path(os.environ["KINO_ATTEMPT_PATH"]),
    )
    signal.signal(signal.SIGTERM, lambda *_: ctx.request_stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not has_metrics:
        ctx.serve(StepMetrics(ctx.run_id, ctx.name))
    code = _run(ctx, main)
    shutil.rmtree(ctx.scratch, ignore_errors=True)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Skips interpreter teardown, where gloo's and loaders' threads can hang or abort.
    os._exit(code)


def _run(ctx: StepContext, main: Callable[[StepContext], Outputs | None]) -> int:
    try:
        outputs = main(ctx)
        if outputs is not None:
            ctx.commit(outputs)
            ctx.tell_last_metrics(outputs.metrics)
    except KinetoscopeError as error:
        ctx.log.error("%s%s", error.message, f" (hint: {error.hint})" if error.hint else "")
        ctx.leave_report(Report(code=error.exit_code, reason=error.message, hint=error.hint or ""))
        return error.exit_code
    except Exception as error:  # the boundary of the process: told, logged, turned into a code
        told = disk_full_error(error) or KinetoscopeError(f"{type(error).__name__}: {error}")
        with suppress(OSError):  # the log, too, lies on some disk
            traceback.print_exc()
            ctx.log.error("%s%s", told.message, f" (hint: {told.hint})" if told.hint else "")
        ctx.leave_report(Report(code=told.exit_code, reason=told.message, hint=told.hint or ""))
        return told.exit_code
    return ExitCode.DONE
