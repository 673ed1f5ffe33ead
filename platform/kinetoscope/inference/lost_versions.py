"""Model versions that a registry has lost, made again from their records in the object store."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from kinetoscope.core.errors import CorruptError, NotFoundError, StorageError, UserError
from kinetoscope.inference.manifest import verify_files, verify_manifest
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store
from kinetoscope.tracking.references import CANDIDATE, CHAMPION
from kinetoscope.tracking.registry import ModelRegistry
from kinetoscope.tracking.version_records import VersionRecord, read_record, record_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kinetoscope.storage.store import ObjectStore


@dataclass(slots=True)
class Rebuilt:
    """What :func:`rebuild` did, with versions as ``NAME/VERSION``."""

    made: dict[str, str] = field(default_factory=dict)
    """Versions that were made again, with what each was called when it was registered."""
    passed_over: dict[str, str] = field(default_factory=dict)
    """Recorded versions whose bundle, and records that, can't be used, with the reason."""
    deleted: list[str] = field(default_factory=list)
    """Recorded versions that are missing because somebody deleted them."""
    without_champion: dict[str, str] = field(default_factory=dict)
    """Models that have no champion now, with their newest version."""


def rebuild(registry: ModelRegistry, store: ObjectStore, *, deleted_too: bool = False) -> Rebuilt:
    """Make the recorded versions that the registry lacks; what it has stays as it is.

    The registry remembers which versions it ever had: one of these that is missing was deleted on
    purpose, any other was lost with an earlier registry. The newest version becomes the candidate
    of a model that has none; which one was the champion is not recorded. The copies of all models'
    aliases are made anew.

    Args:
        registry: where versions are missing.
        store: the root of the object store, with the records and the bundles.
        deleted_too: make those that were deleted as well, under new numbers.
    """
    told = Rebuilt()
    records = sorted(_readable(store, told), key=_order)
    with registry.exclusive():
        for name, of_model in groupby(records, key=lambda record: record.name):
            before = len(told.made)
            for record in _missing(registry, list(of_model), told, deleted_too=deleted_too):
                if _is_whole(store, record, told):
                    told.made[registry.restore_version(record, store).ref] = record.ref
            if len(told.made) > before:
                _name_versions(registry, name, told)
            registry.mirror(name, store)
    return told


def _order(record: VersionRecord) -> tuple[str, int, float]:
    return record.name, record.version, record.created_at


def _readable(store: ObjectStore, told: Rebuilt) -> Iterator[VersionRecord]:
    for key in record_keys(store):
        try:
            yield read_record(store, key)
        except (CorruptError, UserError) as error:
            told.passed_over[key] = error.message


def _missing(
    registry: ModelRegistry, records: list[VersionRecord], told: Rebuilt, *, deleted_too: bool
) -> list[VersionRecord]:
    """Return a model's versions to make: first those whose number is still to be had."""
    name = records[0].name
    versions, had = registry.versions(name), registry.ever_had(name)
    missing = [r for r in records if not any(r.is_version(version) for version in versions)]
    if not deleted_too:
        told.deleted.extend(record.ref for record in missing if record.identity in had)
        missing = [record for record in missing if record.identity not in had]
    last = max((int(version.version) for version in versions), default=0)
    return sorted(missing, key=lambda r: (r.version <= last or r.identity in had, r.version))


def _is_whole(store: ObjectStore, record: VersionRecord, told: Rebuilt) -> bool:
    try:
        bundle = open_store(join_uri(store.uri, record.bundle_key))
        verify_manifest(bundle, record.bundle_digest)
        verify_files(bundle)
    except (NotFoundError, StorageError) as error:
        told.passed_over[record.ref] = error.message
        return False
    return True


def _name_versions(registry: ModelRegistry, name: str, told: Rebuilt) -> None:
    versions = registry.versions(name)
    aliases = {alias for version in versions for alias in version.aliases}
    if CANDIDATE not in aliases:
        registry.set_alias(name, CANDIDATE, versions[-1].version)
    if CHAMPION not in aliases:
        told.without_champion[name] = versions[-1].ref
