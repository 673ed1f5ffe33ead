"""Deleting a step that no run needs."""

from __future__ import annotations

from kinetoscope.steps.contract import RESULT_KEY
from kinetoscope.steps.ledger.ledger import LEDGER
from kinetoscope.storage.store import ObjectStore


def remove_step(store: ObjectStore) -> int:
    """Delete all of a step, so that one of which only a part is gone can be begun again.

    Its ledger goes back entry by entry. The first one goes last: without a ledger, a step of which
    anything is left is refused.

    Args:
        store: of the step.

    Returns:
        The bytes that were freed.
    """
    stats = store.list()
    # The result first: a step that has one counts as done, whatever else is gone.
    store.delete(RESULT_KEY)
    # Its copy, fold.json, comes after the entries in the list.
    for stat in reversed(store.list(LEDGER)[1:]):
        store.delete(stat.key)
    names = {stat.key.partition("/")[0] for stat in stats}
    for name in [*sorted(names - {LEDGER}), LEDGER]:
        store.delete_prefix(name)
    return sum(stat.size_bytes for stat in stats)
