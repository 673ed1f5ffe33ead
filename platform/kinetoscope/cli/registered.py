"""Registered model versions, as the verbs want them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kinetoscope.inference.bundle import Bundle
    from kinetoscope.storage.store import ObjectStore
    from kinetoscope.tracking.registry import ModelRegistry
    from kinetoscope.tracking.versions import ModelVersion


def registry() -> ModelRegistry:
    """Return the registry that the environment names."""
    from kinetoscope.core.settings import tracking_uri
    from kinetoscope.tracking.registry import ModelRegistry

    return ModelRegistry(tracking_uri())


def find_version(ref: str | None) -> ModelVersion:
    """Return a version by reference; by default the champion of the model registered last.

    Raises:
        NotFoundError: there is none.
    """
    from kinetoscope.core.errors import NotFoundError

    known = registry()
    try:
        if ref is not None:
            return known.get_version(ref)
        versions = known.list_models()
        if not versions:
            raise NotFoundError("no model is registered yet", hint="kino run trains one")
        return known.get_version(max(versions, key=lambda version: version.created_at).name)
    except NotFoundError as error:
        lost = None if known.list_models() else lost_hint()
        raise NotFoundError(error.message, hint=lost or error.hint) from error


def lost_hint() -> str | None:
    """Return what to do where nothing is registered, but versions are recorded; else None."""
    from kinetoscope.core.settings import workspace
    from kinetoscope.storage.open import open_store
    from kinetoscope.tracking.version_records import record_keys

    keys = record_keys(open_store(workspace().store_uri))
    if not keys:
        return None
    what = "record of a version" if len(keys) == 1 else "records of versions"
    return f"the object store has {len(keys)} {what}: `kino models rebuild` registers them again"


def open_bundle(version: ModelVersion) -> ObjectStore:
    """Return the store rooted at a registered version's bundle; see ``open_version``."""
    from kinetoscope.core.settings import workspace
    from kinetoscope.inference.registered import open_version
    from kinetoscope.storage.open import open_store

    return open_version(version, open_store(workspace().store_uri))


def load_version(version: ModelVersion) -> Bundle:
    """Return a registered version's bundle with its weights."""
    import tempfile
    from pathlib import Path

    from kinetoscope.inference.bundle import load_bundle

    with tempfile.TemporaryDirectory() as scratch:
        return load_bundle(open_bundle(version), Path(scratch))
