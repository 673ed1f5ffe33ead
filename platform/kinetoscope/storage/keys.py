"""Keys of objects, and the URIs of what lies below a store.

What is stored names other objects by their keys below the root, never by URI: a store can be moved.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

from kinetoscope.core.errors import StorageError

# Control characters and what is no text: neither a URL nor the XML of S3 can carry them.
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def join_uri(uri: str, key: str) -> str:
    """Return the URI of a key below a store's URI."""
    return f"{uri.rstrip('/')}/{quote(check_key(key))}"


def split_uri(uri: str, folder: str) -> tuple[str, str]:
    """Take apart the URI of something below a folder of the root, e.g. ``runs`` or ``steps``.

    Args:
        uri: such as ``file:///store/steps/prepare_data/0123``.
        folder: the first part of the key.

    Returns:
        URI of the root, and the key below it.

    Raises:
        StorageError: there is no such folder in it.
    """
    root, found, rest = uri.rpartition(f"/{folder}/")
    if not found:
        raise StorageError(f"{uri} is not below a folder {folder!r}")
    return root, check_key(f"{folder}/{unquote(rest)}")


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
