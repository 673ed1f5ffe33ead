"""Find the newest good checkpoint of a training step, and delete old ones."""

from __future__ import annotations

import logging

from kinetoscope.checkpoints.layout import MANIFEST, ROOT, folder, parse_folder
from kinetoscope.checkpoints.read import verify_checkpoint
from kinetoscope.core.errors import CorruptError
from kinetoscope.storage.store import ObjectStore

_log = logging.getLogger(__name__)


def list_checkpoints(store: ObjectStore) -> list[str]:
    """Return the key prefixes of the committed checkpoints, oldest first.

    Those of a later generation count as newer, whatever their step: what a superseded attempt wrote
    after its successor began is not continued from.
    """
    return [folder(step, generation) for generation, step in _committed(store)]


def latest_checkpoint(store: ObjectStore, *, identity: str = "") -> str | None:
    """Return the key prefix of the newest checkpoint whose files match its manifest.

    A damaged checkpoint, and one of another step, is logged and passed over.

    Args:
        store: of the training step.
        identity: of the step; empty: any.

    Raises:
        UserError: a newer version of Kinetoscope wrote the newest one.
    """
    for prefix in reversed(list_checkpoints(store)):
        try:
            verify_checkpoint(store, prefix, identity=identity)
        except CorruptError as error:
            _log.warning("passing over the checkpoint %s: %s", prefix, error.message)
        else:
            return prefix
    return None


def prune(store: ObjectStore, *, keep_last: int) -> list[str]:
    """Delete all but the newest committed checkpoints, and remains of unfinished older ones.

    Args:
        store: of the training step.
        keep_last: checkpoints to keep, at least 1.

    Returns:
        The key prefixes that were deleted.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last={keep_last} must be at least 1")
    committed = _committed(store)
    kept = set(committed[-keep_last:])
    newest = committed[-1:] or [(-1, -1)]
    doomed = sorted(place for place in _all(store) if place not in kept and place < newest[0])
    for generation, step in doomed:
        prefix = folder(step, generation)
        # First the manifest: a deletion cut short leaves something that readers ignore.
        store.delete(f"{prefix}/{MANIFEST}")
        store.delete_prefix(prefix)
    return [folder(step, generation) for generation, step in doomed]


def _committed(store: ObjectStore) -> list[tuple[int, int]]:
    return sorted(place for place, names in _all(store).items() if MANIFEST in names)


def _all(store: ObjectStore) -> dict[tuple[int, int], set[str]]:
    """Return the file names of each checkpoint by its (generation, step)."""
    found: dict[tuple[int, int], set[str]] = {}
    for stat in store.list(ROOT):
        place = parse_folder(stat.key)
        if place is not None:
            found.setdefault(place, set()).add(stat.key.rsplit("/", 1)[-1])
    return found
