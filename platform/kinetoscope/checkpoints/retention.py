"""Which checkpoints of a training step count, and the deletion of those that do not.

Nothing is deleted that the ledger has not given up before, so that an attempt that was superseded
deletes nothing that its successor goes on from, and a deletion cut short is finished by others.
"""

from __future__ import annotations

from collections.abc import Iterable

from kinetoscope.checkpoints.layout import MANIFEST, ROOT, parse_place
from kinetoscope.steps.ledger.entries import LedgerState, Pruned
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.storage.store import ObjectStore


def list_checkpoints(store: ObjectStore) -> list[str]:
    """Return the key prefixes of the checkpoints of a step that count, oldest first."""
    return [saved.prefix for saved in Ledger(store).state().checkpoints]


def prune(store: ObjectStore, ledger: Ledger, *, generation: int, keep_last: int) -> list[str]:
    """Give up all but the newest checkpoints, and delete what was given up.

    Args:
        store: of the training step.
        ledger: of the step.
        generation: of this attempt.
        keep_last: checkpoints to keep, at least 1.

    Returns:
        The key prefixes that were deleted.

    Raises:
        SupersededError: a later attempt has begun; nothing was given up.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last={keep_last} must be at least 1")
    state = ledger.check(generation)
    doomed = state.doomed
    _delete(store, doomed)
    if _surplus(state, keep_last):
        ledger.append(
            lambda now: Pruned(prefixes=_surplus(now, keep_last), deleted=doomed), generation
        )
        state = ledger.state()
        _delete(store, state.doomed)
    return [*doomed, *(prefix for prefix in state.doomed if prefix not in doomed)]


def sweep(store: ObjectStore, state: LedgerState) -> list[str]:
    """Delete what earlier attempts began to save and never finished; return the key prefixes.

    No attempt can make them count any more: each is superseded.

    Args:
        store: of the training step.
        state: of its ledger, once this attempt is in it.
    """
    known = {*(saved.prefix for saved in state.checkpoints), *state.damaged}
    places = {parse_place(stat.key) for stat in store.list(ROOT)}
    found = sorted(place for place in places if place and place.generation < state.generation)
    left = [place.prefix for place in found if place.prefix not in known]
    _delete(store, left)
    return left


def _surplus(state: LedgerState, keep_last: int) -> tuple[str, ...]:
    return (*(saved.prefix for saved in state.checkpoints[:-keep_last]), *state.damaged)


def _delete(store: ObjectStore, prefixes: Iterable[str]) -> None:
    for prefix in prefixes:
        # First the manifest: what a deletion leaves that is cut short is no checkpoint.
        store.delete(f"{prefix}/{MANIFEST}")
        store.delete_prefix(prefix)
