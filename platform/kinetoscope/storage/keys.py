"""Keys of objects, and the URIs of what lies below a store."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote

from kinetoscope.core.errors import StorageError

# Control characters and what is no text: neither a URL nor the XML of S3 can carry them.
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def join_uri(uri: str, key: str) -> str:
    """Return the URI of a key below a store's URI."""
    return f"{uri.rstrip('/')}/{quote(check_key(key))}"


def check_key(key: str) -> str:
    """Return the key; raises ``StorageError`` unless it is relative and stays below its root."""
    parts = PurePosixPath(key).parts
    if (
        not parts
        or parts[0] == "/"
        or ".." in parts
        or "\\" in key
        or _UNSPEAKABLE.search(key)
        or str(PurePosixPath(key)) != key
    ):
        raise StorageError(
            f"bad object key {key!r}: a relative path without '..' and control characters is needed"
        )
    return key
