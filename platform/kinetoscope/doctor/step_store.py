"""Examine an object store that is to hold the steps of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetoscope.steps.ledger.ledger import LARGEST_ENTRY_BYTES, LEDGER_KEYS
from kinetoscope.storage.lifecycle_check import examine_lifecycle
from kinetoscope.storage.store_check import examine_store

if TYPE_CHECKING:
    from kinetoscope.core.findings import Finding


def examine_step_store(uri: str) -> list[Finding]:
    """Use the store, and see that it keeps what it is given.

    Args:
        uri: root of the store.
    """
    used = examine_store(uri)
    if used.state == "bad":
        return [used]
    return [used, *examine_lifecycle(uri, LEDGER_KEYS, largest_bytes=LARGEST_ENTRY_BYTES)]
