"""The rows of a step's metrics, read from where somebody read before."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kinetoscope.core.units import MIB
from kinetoscope.steps.contract import ATTEMPTS
from kinetoscope.storage.records import shown_name
from kinetoscope.tracking.tracker import MetricRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kinetoscope.storage.store import ObjectStore

_CHUNK_BYTES = MIB

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AttemptRows:
    """The rows of one attempt."""

    attempt: str
    key: str
    """Of the longest copy: one that grows, or one that was made with a checkpoint."""
    size_bytes: int


def rows_of_attempts(store: ObjectStore) -> list[AttemptRows]:
    """Return where the rows of a step's attempts lie, the oldest first."""
    longest: dict[str, AttemptRows] = {}
    for stat in store.list(ATTEMPTS):
        if stat.key.endswith("/metrics.jsonl"):
            attempt = stat.key.split("/")[1]
            known = longest.get(attempt)
            if known is None or stat.size_bytes > known.size_bytes:
                longest[attempt] = AttemptRows(attempt, stat.key, stat.size_bytes)
    return [longest[attempt] for attempt in sorted(longest)]


def read_on(
    store: ObjectStore, rows: AttemptRows, offset: int
) -> Iterator[tuple[list[MetricRow], int]]:
    """Yield the rows from an offset on, some at a time, and the offset after them.

    A row whose end has not been shipped yet is left for the next look.
    """
    while offset < rows.size_bytes:
        data = store.get_range(rows.key, offset, _CHUNK_BYTES)
        # What has no end in so many bytes is no row.
        whole = data.rfind(b"\n") + 1 or (len(data) if len(data) >= _CHUNK_BYTES else 0)
        if not whole:
            return
        offset += whole
        yield _parse(data[:whole], shown_name(store, rows.key)), offset


def _parse(data: bytes, name: str) -> list[MetricRow]:
    rows = []
    broken = 0
    for line in data.splitlines():
        try:
            rows.append(MetricRow.model_validate_json(line))
        except ValidationError:
            broken += 1
    if broken:
        _log.warning("%s: %d lines are no rows of metrics, and are left out", name, broken)
    return rows
