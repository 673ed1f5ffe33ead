"""A registered version's bundle, found in the workspace that asks.

The registry tells its key below the root of the object store, so that a workspace that was moved or
copied finds its own weights, never those of the place it came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetoscope.core.errors import NotFoundError, UserError
from kinetoscope.core.settings import tracking_uri
from kinetoscope.core.uris import sqlite_path
from kinetoscope.inference.manifest import MANIFEST, verify_manifest
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store

if TYPE_CHECKING:
    from kinetoscope.storage.store import ObjectStore
    from kinetoscope.tracking.versions import ModelVersion


def open_version(version: ModelVersion, store: ObjectStore) -> ObjectStore:
    """Return the store rooted at a version's bundle; its manifest has the registered digest.

    Args:
        version: from the registry.
        store: the root of the own object store.

    Raises:
        NotFoundError: the bundle is neither there nor in the bucket that a server's registry names.
        CorruptError: its manifest was changed.
        UserError: the version does not tell which bundle it is.
    """
    if not version.bundle_key or not version.bundle_digest:
        raise UserError(
            f"{version.ref} does not tell which bundle of the object store it is: an older "
            "version or other software registered it",
            hint="register the model again: train it, or kino models import",
        )
    bundle = open_store(_bundle_uri(version, store))
    verify_manifest(bundle, version.bundle_digest)
    return bundle


def _bundle_uri(version: ModelVersion, store: ObjectStore) -> str:
    if store.stat(f"{version.bundle_key}/{MANIFEST}") is not None:
        return join_uri(store.uri, version.bundle_key)
    # A registry that others share may name their bucket; their folders are on their machines.
    if version.source.startswith("s3://") and sqlite_path(tracking_uri()) is None:
        return version.source
    raise NotFoundError(
        f"the bundle of {version.ref}, {version.bundle_key}, is not in the object store "
        f"{store.uri}",
        hint=f"copy the folder {version.bundle_key} there, or name the store that has it with "
        "KINO_STORE_URI or KINO_WORKSPACE",
    )
