"""The manifest of a model bundle, for those who do not open its weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kinetoscope.core.errors import CorruptError, NotFoundError
from kinetoscope.core.hashing import digest_bytes

if TYPE_CHECKING:
    from kinetoscope.storage.store import ObjectStore

MANIFEST = "bundle.json"


def bundle_digest(manifest: bytes) -> str:
    """Return the digest of a bundle from the bytes of its ``bundle.json``."""
    return digest_bytes(manifest)


def read_manifest(store: ObjectStore) -> bytes:
    """Return the bytes of ``bundle.json``; raises ``NotFoundError``.

    Args:
        store: rooted at the bundle.
    """
    try:
        return store.get_bytes(MANIFEST)
    except NotFoundError:
        raise NotFoundError(
            f"no model bundle at {store.uri}", hint="was the object store moved or cleaned?"
        ) from None


def verify_manifest(store: ObjectStore, digest: str) -> None:
    """Compare ``bundle.json`` with the digest that a bundle was registered with.

    Args:
        store: rooted at the bundle.
        digest: from the registry or a record.

    Raises:
        NotFoundError: there is no bundle.
        CorruptError: the file was changed.
    """
    if bundle_digest(read_manifest(store)) != digest:
        raise CorruptError(
            f"{store.uri}/{MANIFEST} is not what was registered: its digest is not {digest}",
            hint="bring the bundle back from a copy of the store",
        )


def verify_files(store: ObjectStore) -> None:
    """Read all files of a bundle and compare them with its manifest.

    Args:
        store: rooted at the bundle.

    Raises:
        CorruptError: a file is missing or was changed.
    """
    files: dict[str, str] = json.loads(read_manifest(store))["files"]
    for name, digest in files.items():
        if store.stat(name) is None:
            raise CorruptError(f"{store.uri}/{name} is missing")
        if store.digest(name) != digest:
            raise CorruptError(f"{store.uri}/{name} does not match its digest in {MANIFEST}")
