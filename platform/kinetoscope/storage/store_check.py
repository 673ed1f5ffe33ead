"""Does an object store keep what it is given?"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.core.findings import Finding
from kinetoscope.storage.open import open_store

if TYPE_CHECKING:
    from kinetoscope.storage.store import ObjectStore

CHECK = "object store"

_HINT = "see the message; KINO_STORE_URI and KINO_S3_ENDPOINT say where the store is"


def examine_store(uri: str) -> Finding:
    """Write, read, list and delete an object of a name of its own, twice if absent.

    Args:
        uri: root of the store, e.g. ``s3://bucket/prefix``.
    """
    key = f".kino-doctor/{uuid4().hex}"
    tried = f"wrote {uri.rstrip('/')}/{key} twice if absent, read, listed and deleted it"
    try:
        wrong = _use(open_store(uri), key)
    except KinetoscopeError as error:
        # The URI may hold what it must not: a key and a password.
        safe = "opened the object store" if "@" in uri else tried
        return Finding(CHECK, "bad", safe, error.message, error.hint or _HINT)
    except OSError as error:
        return Finding(CHECK, "bad", tried, f"{error}", "may this user write there?")
    if wrong:
        hint = "use a store with conditional writes (If-None-Match) and read-after-write"
        return Finding(CHECK, "bad", tried, wrong, hint)
    return Finding(CHECK, "ok", tried, "whole, once, and gone again")


def _use(store: ObjectStore, key: str) -> str:
    """Return what went wrong, in words, or an empty string."""
    first = store.put_bytes_if_absent(key, b"first")
    try:
        if not first:
            return "a new object was said to exist already"
        if store.put_bytes_if_absent(key, b"second"):
            return "an object was replaced that should have been written only if absent"
        if store.get_bytes(key) != b"first":
            return "other bytes came back"
        if [stat.key for stat in store.list(key)] != [key]:
            return "the object is missing in the listing"
    finally:
        store.delete_prefix(key)
    return "" if store.stat(key) is None else "the object is still there after it was deleted"
