"""The record of each registered version, in the object store beside its weights.

MLflow's database is a file that can be lost; the records in ``registry/<name>/`` are what
``kino models rebuild`` makes the versions from again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetoscope.core.errors import UserError
from kinetoscope.storage.records import shown_name
from kinetoscope.tracking.versions import ModelVersion, NewVersion

if TYPE_CHECKING:
    from kinetoscope.storage.store import ObjectStore

FORMAT_VERSION = 1

_FOLDER = "registry"


class VersionRecord(NewVersion):
    """A version as it was registered."""

    format_version: int = FORMAT_VERSION
    version: int
    """The number that it got then."""
    created_at: float
    """Seconds since the epoch."""

    @property
    def ref(self) -> str:
        """The version as commands take it: ``tiny/3``."""
        return f"{self.name}/{self.version}"


def write_record(store: ObjectStore, new: NewVersion, version: ModelVersion) -> None:
    """Record a version, once.

    Its key follows from what it is and not from its number, which another registry, or a new one
    after a loss, may give to another version.

    Args:
        store: the root of the object store.
        new: what was registered.
        version: what the registry made of it.
    """
    record = VersionRecord(**dict(new), version=int(version.version), created_at=version.created_at)
    store.put_bytes_if_absent(f"{_FOLDER}/{new.name}/{new.identity}.json", record.to_bytes())


def record_keys(store: ObjectStore) -> list[str]:
    """Return the keys of all records in the store."""
    return [stat.key for stat in store.list(_FOLDER) if stat.key.endswith(".json")]


def read_record(store: ObjectStore, key: str) -> VersionRecord:
    """Read a record.

    Raises:
        CorruptError: it was changed.
        UserError: a newer version of Kinetoscope wrote it.
    """
    record = VersionRecord.from_bytes(store.get_bytes(key), shown_name(store, key))
    if record.format_version > FORMAT_VERSION:
        raise UserError(
            f"{store.uri}/{key} has format {record.format_version}; this version reads up to "
            f"{FORMAT_VERSION}",
            hint="update Kinetoscope",
        )
    return record
