"""How a URI opens a store, and an object becomes a local file."""

from __future__ import annotations

import os
from pathlib import Path

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.hashing import digest_json
from kinetoscope.core.uris import file_path
from kinetoscope.storage.directory import DirectoryStore
from kinetoscope.storage.store import ObjectStore


def open_store(uri: str) -> ObjectStore:
    """Open the store rooted at a URI.

    Cheap, and repeatable: stores of one bucket share their connections.

    Args:
        uri: ``file:///absolute/folder`` or ``s3://bucket/prefix``; the environment says where S3 is
            and who asks (``storage/s3/settings.py``).

    Raises:
        ConfigError: for any other URI, and for wrong settings.
    """
    if uri.startswith("s3://"):
        from kinetoscope.storage.s3.store import open_s3_store

        return open_s3_store(uri)
    path = file_path(uri)
    if path is None:
        # What stands before an @ may be a password.
        told = "a URI with a user in it" if "@" in uri else repr(uri)
        raise ConfigError(
            f"no object store for {told}",
            hint="use file:///absolute/folder or s3://bucket/prefix, and quote '?' and '#' in it",
        )
    return DirectoryStore(path)


def as_local(store: ObjectStore, key: str, scratch: Path) -> Path:
    """Return a local file with the object's content, downloaded below ``scratch`` if need be."""
    path = store.local_path(key)
    if path is None:
        path = scratch / key
        path.parent.mkdir(parents=True, exist_ok=True)
        store.get_file(key, path)
    return path


def portable_place(root_uri: str, place: str, home: Path) -> str:
    """Write a place so that it stays right when the store moves: relative if it moves along.

    Args:
        root_uri: of the store that keeps what is written.
        place: an absolute path, or a URI, which stays as it is.
        home: folder that moves as a whole; the store may lie in it.
    """
    root = file_path(root_uri)
    along = root is not None and root.is_relative_to(home) and Path(place).is_relative_to(home)
    return os.path.relpath(place, root) if along else place


def place_of(root_uri: str) -> str:
    """Return 16 hex digits that tell a store from its copies, and from where it was before."""
    root = file_path(root_uri)
    inode = root.stat().st_ino if root is not None and root.exists() else 0
    return digest_json([root_uri, inode]).removeprefix("sha256:")[:16]


def resolve_place(root_uri: str, text: str) -> str:
    """Return the place that `portable_place` wrote."""
    root = file_path(root_uri)
    if root is None or "://" in text:
        return text
    return os.path.normpath(root / text)
