"""A ledger told as a story, for people."""

from __future__ import annotations

from typing import Any

from kinetoscope.steps.ledger.entries import (
    Attempt,
    Committed,
    Damaged,
    Ended,
    Happening,
    Pruned,
    RolledBack,
    Saved,
)
from kinetoscope.steps.ledger.ledger import Ledger


def story(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the entries of a ledger as plain values, oldest first.

    Each has ``number``, ``at`` (seconds since the epoch), ``attempt``, ``kind``, ``text`` (a
    sentence whose subject is the attempt) and ``details`` (what the entry holds).

    Raises:
        CorruptError: the ledger is damaged.
    """
    return [
        {
            "number": entry.number,
            "at": entry.at,
            "attempt": entry.generation,
            "kind": entry.what.kind,
            "text": _told(entry.what),
            "details": entry.what.model_dump(mode="json", exclude={"kind"}),
        }
        for entry in ledger.entries()
    ]


def _told(what: Happening) -> str:
    match what:
        case Attempt():
            began = f"begins, for start {what.start} of run {what.run_id} on {what.process.host}"
            return f"{began}, from {what.checkpoint or 'nothing'}"
        case Saved():
            return f"saves step {what.step} as {what.prefix}"
        case Damaged():
            return f"finds {what.prefix} damaged, which counts no more: {what.reason}"
        case RolledBack():
            return f"goes back to {what.to or 'the beginning'}"
        case Pruned():
            return f"gives up {', '.join(what.prefixes)}"
        case Committed():
            return "commits the result"
        case Ended():
            return _told_end(what)


def _told_end(end: Ended) -> str:
    told = f"ends with code {end.code}"
    if end.reason:
        told += f": {end.reason}"
    return told + (f" (came further by {end.steps:g})" if end.steps else "")
