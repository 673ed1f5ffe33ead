"""Registered model versions, as the verbs want them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kinetoscope.inference.bundle import Bundle
    from kinetoscope.storage.store import ObjectStore
    from kinetoscope.tracking.references import KnownVersions
    from kinetoscope.tracking.registry import ModelRegistry
    from kinetoscope.tracking.versions import ModelVersion


def registry() -> ModelRegistry:
    """Return the registry that the environment names, to change it; made where there is none."""
    from kinetoscope.core.settings import tracking_uri
    from kinetoscope.tracking.registry import ModelRegistry

    return ModelRegistry(tracking_uri())


def list_versions() -> list[ModelVersion]:
    """Return all versions of all models, by name, oldest first."""
    return _known().list_models()


def find_version(ref: str | None, *, default_alias: str = "champion") -> ModelVersion:
    """Return a version by reference; by default the champion of the model registered last.

    Args:
        ref: see ``KnownVersions``; None names the model.
        default_alias: what a bare name means.

    Raises:
        NotFoundError: there is none.
    """
    from kinetoscope.core.errors import NotFoundError

    known = _known()
    try:
        if ref is not None:
            return known.get_version(ref, default_alias=default_alias)
        versions = known.list_models()
        if not versions:
            raise NotFoundError("no model is registered yet", hint="kino run trains one")
        return known.get_version(max(versions, key=lambda version: version.created_at).name)
    except NotFoundError as error:
        lost = None if known.list_models() else nothing_hint()
        raise NotFoundError(error.message, hint=lost or error.hint) from error


def nothing_hint() -> str | None:
    """Return why nothing may be registered here: no workspace, or a lost registry; else None."""
    return absence_hint() or _lost_hint()


def absence_hint() -> str | None:
    """Return that there is no workspace, where its registry would be the one; else None."""
    from kinetoscope.cli.output import ANOTHER_WORKSPACE
    from kinetoscope.core.settings import tracking_uri, workspace

    own = workspace()
    if own.absence and tracking_uri() == own.tracking_uri:
        return f"{own.absence}; {ANOTHER_WORKSPACE}"
    return None


def open_bundle(version: ModelVersion) -> ObjectStore:
    """Return the store rooted at a registered version's bundle; see ``open_version``."""
    from kinetoscope.core.settings import workspace
    from kinetoscope.inference.registered import open_version
    from kinetoscope.storage.open import open_store

    return open_version(version, open_store(workspace().store_uri))


def load_bundle(store: ObjectStore) -> Bundle:
    """Return the bundle that ``open_bundle`` found, with its weights."""
    import tempfile
    from pathlib import Path

    from kinetoscope.inference.bundle import load_bundle as load

    with tempfile.TemporaryDirectory() as scratch:
        return load(store, Path(scratch))


def _known() -> KnownVersions:
    from kinetoscope.core.settings import tracking_uri
    from kinetoscope.tracking.embedded import known_versions

    return known_versions(tracking_uri())


def _lost_hint() -> str | None:
    """Return what to do where nothing is registered, but versions are recorded; else None."""
    from kinetoscope.core.settings import workspace
    from kinetoscope.storage.open import open_store
    from kinetoscope.tracking.version_records import record_keys

    keys = record_keys(open_store(workspace().store_uri))
    if not keys:
        return None
    what = "record of a version" if len(keys) == 1 else "records of versions"
    return f"the object store has {len(keys)} {what}: `kino models rebuild` registers them again"
