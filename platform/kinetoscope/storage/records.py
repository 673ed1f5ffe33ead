"""The one way to read a stored record."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from kinetoscope.core.errors import CorruptError, NotFoundError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.storage.keys import join_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kinetoscope.core.config_model import Record
    from kinetoscope.storage.store import ObjectStore

R = TypeVar("R", bound="Record")


def read_record(store: ObjectStore, key: str, kind: type[R]) -> R | None:
    """Return a stored record, or None when there is none.

    Raises:
        CorruptError: it was changed since it was written; names the file or object.
    """
    found = read_with_digest(store, key, kind)
    return found[0] if found is not None else None


def read_with_digest(store: ObjectStore, key: str, kind: type[R]) -> tuple[R, str] | None:
    """Return a stored record and the digest of its bytes; otherwise as `read_record`.

    What a record refers to another one by: written anew, one of a later version has other bytes.
    """
    try:
        data = store.get_bytes(key)
    except NotFoundError:
        return None
    return kind.from_bytes(data, shown_name(store, key)), digest_bytes(data)


@contextmanager
def damage_hint(hint: str) -> Iterator[None]:
    """Say what to do about damage that is found meanwhile, unless the error says it already."""
    try:
        yield
    except CorruptError as error:
        raise CorruptError(error.message, hint=error.hint or hint) from error


def shown_name(store: ObjectStore, key: str) -> str:
    """Return what people call an object: its path, or its URI where it is in a bucket."""
    path = store.local_path(key)
    return str(path) if path is not None else join_uri(store.uri, key)
