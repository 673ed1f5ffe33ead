"""Paths in URIs, and back: any character may be in a path."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///([^?]+)", re.DOTALL)


def file_path(uri: str) -> Path | None:
    """Return the path of a ``file:`` URI, or None where it is another URI or says more than a path.

    ``Path.as_uri`` is the way back.
    """
    parts = urlsplit(uri)
    is_local = parts.scheme == "file" and parts.netloc in ("", "localhost")
    if not is_local or parts.query or parts.fragment or not parts.path.startswith("/"):
        return None
    # A name need not be text.
    return Path(os.fsdecode(unquote_to_bytes(parts.path)))


def is_text(path: Path) -> bool:
    """Tell whether a path is UTF-8: records, MLflow and pipelines hold paths as text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def sqlite_uri(path: Path) -> str:
    """Return the URI of a sqlite file.

    Quoted is just what SQLAlchemy would take for something else. The URI names the driver, since
    MLflow makes the folder of a bare ``sqlite:///`` by its quoted name.
    """
    quoted = str(path).replace("%", "%25").replace("?", "%3F")
    return f"sqlite+pysqlite:///{quoted}"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a sqlite URI, as SQLAlchemy finds it; None where it is no such URI."""
    found = _SQLITE.match(uri)
    return Path(unquote(found[1])) if found else None
