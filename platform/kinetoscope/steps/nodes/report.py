"""What the supervisor of a node tells the store of its part of an attempt."""

from __future__ import annotations

import time
from pathlib import Path

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.contract import Progress, Report, StepState, StepStatus, attempt_key
from kinetoscope.storage.records import read_record
from kinetoscope.storage.store import ObjectStore

# A log is shipped whole each time: one that has grown big, so much more rarely.
_SHIP_BYTES_PER_SECOND = 1 << 20


def read_node_end(store: ObjectStore, generation: int, node: int) -> Report | None:
    """Return how a node's part of an attempt ended, or None while it has not said so."""
    return read_record(store, f"{attempt_key(generation, node)}/end.json", Report)


class NodeReport:
    """Keeps the status of a node's part current, and copies its ranks' logs and metrics.

    Args:
        store: of the step.
        key: prefix of the node's own objects.
        folder: where the ranks leave what they have to say.
        status: what is always so: the run, the attempt and the node.
    """

    def __init__(self, store: ObjectStore, key: str, folder: Path, status: StepStatus) -> None:
        self._store = store
        self._key = key
        self._folder = folder
        self._status = status
        self._began = time.monotonic()
        self._beats = 0
        self._shipped: dict[Path, int] = {}
        self._ship_at: dict[Path, float] = {}

    def beat(self) -> None:
        """Tell that the node is at work, and how far its ranks are."""
        self._write("running")

    def end(self, state: StepState, report: Report) -> None:
        """Tell how the node's part ended."""
        self._write(state, **report.model_dump())
        self._store.put_bytes(f"{self._key}/end.json", report.to_bytes())
        if report.code == ExitCode.DISK_FULL:  # what the ranks wrote last may have found no room
            told = f"{report.reason} (hint: {report.hint})\n".encode()
            self._store.put_bytes(f"{self._key}/logs/supervisor.log", told)

    def progress(self) -> Progress:
        """Return what the ranks said last of how far they are."""
        path = self._folder / "progress.json"
        return Progress.from_bytes(path.read_bytes(), str(path)) if path.exists() else Progress()

    def ship(self, *, at_once: bool = False) -> None:
        """Copy what has grown of the ranks' logs and of the metrics to the store."""
        now = time.monotonic()
        for path in [*(self._folder / "logs").glob("*.log"), self._folder / "metrics.jsonl"]:
            size = path.stat().st_size if path.exists() else 0
            due = at_once or now >= self._ship_at.get(path, 0.0)
            if due and size > self._shipped.get(path, 0):
                self._store.put_file(f"{self._key}/{path.relative_to(self._folder)}", path)
                self._shipped[path] = size
                self._ship_at[path] = now + size / _SHIP_BYTES_PER_SECOND

    def _write(self, state: StepState, **end: object) -> None:
        self._beats += 1
        url = self._folder / "metrics_url"
        now = {
            "state": state,
            "seconds": time.monotonic() - self._began,
            "heartbeat": self._beats,
            "progress": self.progress(),
            "metrics_url": url.read_text() if url.exists() and state == "running" else "",
            **end,
        }
        status = self._status.model_copy(update=now)
        self._store.put_bytes(f"{self._key}/status.json", status.to_bytes())
