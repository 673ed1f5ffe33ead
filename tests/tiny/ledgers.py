"""Ledgers of steps, as attempts leave them; free of torch."""

from __future__ import annotations

from typing import Any

from kinetoscope.steps.ledger.entries import Attempt
from kinetoscope.steps.ledger.ledger import FOLD_KEY, Ledger, entry_key
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.storage.store import ObjectStore

ELSEWHERE = ProcessIdentity(host="elsewhere", pid=1, started_at=0.0)


def begin(store: ObjectStore, **changes: Any) -> int:
    """Add an attempt of a process elsewhere to a step's ledger; return its generation."""
    values = {"run_id": "raaaaaaa", "process": ELSEWHERE, "code_version": "0.1.0+aa"} | changes
    ledger = Ledger(store)
    attempt = Attempt(**values)
    return ledger.append(lambda _: attempt, ledger.state().generation + 1).generation


def rewind(store: ObjectStore, number: int) -> None:
    """Let a ledger end with an entry, as if all that came later had never happened."""
    store.delete(FOLD_KEY)
    while store.stat(entry_key(number + 1)) is not None:
        number += 1
        store.delete(entry_key(number))
