"""A copy of each model's aliases, in the object store beside the records of its versions.

MLflow has the truth. The copy lets `kino show` tell a model's aliases without MLflow; whatever of
ours changes an alias makes it anew. An alias that somebody changes in MLflow itself is in it after
the next change of ours, or after ``kino models rebuild``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kinetoscope.core.config_model import Record
from kinetoscope.storage.records import damage_hint, read_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinetoscope.storage.store import ObjectStore
    from kinetoscope.tracking.versions import ModelVersion

# Between two looks at MLflow others change the model; more often than this they hardly do.
_MOST_COPIES = 10


class MirroredAliases(Record):
    """What MLflow said of a model's versions."""

    name: str
    aliases: dict[str, str]
    """Number of the version of each alias."""
    bundle_keys: dict[str, str]
    """Where the weights of each version are, by its number."""
    mirrored_at: float
    """Seconds since the epoch."""

    def of_version(self, number: str, bundle_key: str) -> tuple[str, ...] | None:
        """Return a version's aliases, or None where the model has no such version any more."""
        if self.bundle_keys.get(number) != bundle_key:
            return None
        return tuple(sorted(alias for alias, owner in self.aliases.items() if owner == number))


def mirror_aliases(
    store: ObjectStore, name: str, versions: Callable[[], list[ModelVersion]]
) -> None:
    """Copy what MLflow says of a model now.

    Several may do so at once: each looks again after it wrote, so that the last to write has
    written what is true.

    Args:
        store: the root of the object store.
        name: of the model.
        versions: asks MLflow for its versions.
    """
    told = _told(name, versions())
    for _ in range(_MOST_COPIES):
        store.put_bytes(_key(name), told.model_copy(update={"mirrored_at": time.time()}).to_bytes())
        before, told = told, _told(name, versions())
        if told == before:
            return


def read_aliases(store: ObjectStore, name: str) -> MirroredAliases | None:
    """Return the copy, or None where there is none: an earlier version registered the model.

    Raises:
        CorruptError: it was changed.
    """
    with damage_hint("kino models rebuild writes it anew"):
        return read_record(store, _key(name), MirroredAliases)


def _told(name: str, versions: list[ModelVersion]) -> MirroredAliases:
    return MirroredAliases(
        name=name,
        aliases={alias: version.version for version in versions for alias in version.aliases},
        bundle_keys={version.version: version.bundle_key for version in versions},
        mirrored_at=0.0,
    )


def _key(name: str) -> str:
    # No .json: those in this folder are records of versions.
    return f"registry/{name}/aliases"
