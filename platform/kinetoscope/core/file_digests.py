"""Digests of files and folders, remembered for as long as a file stays as it is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from kinetoscope.core.hashing import digest_file, digest_json

# A file that changed this recently could change again within the clock's resolution, so its digest
# is not remembered (git's "racily clean" entries).
_SETTLED_SECONDS = 2.0


class FileDigests:
    """Digests by path, size, and the times of modification and of change.

    The first of these times is set by whoever copies a file with its times; the second by nobody.

    Args:
        cache: JSON file that keeps them; a missing or damaged one remembers nothing.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._remembered = _read(cache)
        self._current: dict[str, list[Any]] = {}

    def digest(self, path: Path) -> str:
        """Return a file's digest, or a folder's: of its files by name; raises ``OSError``."""
        if not path.is_dir():
            return self._of_file(path)
        files = {file.relative_to(path).as_posix(): file for file in _files_in(path, set())}
        return digest_json({name: self._of_file(file) for name, file in files.items()})

    def save(self) -> None:
        """Keep what was learned."""
        merged = {**self._remembered, **self._current}
        if merged == self._remembered:
            return
        self._cache.parent.mkdir(parents=True, exist_ok=True)
        partial = self._cache.with_name(f"{self._cache.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(merged), encoding="utf-8")
        with suppress(IsADirectoryError):
            partial.replace(self._cache)

    def _of_file(self, path: Path) -> str:
        status = path.stat()
        found = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        entry = self._remembered.get(str(path.absolute()))
        if entry is None or entry[:3] != found:
            # Times are read before the content: after a write in between the next call hashes.
            settled = time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_SECONDS
            entry = [*(found if settled else [0, 0, 0]), digest_file(path)]
        self._current[str(path.absolute())] = entry
        return str(entry[3])


def _files_in(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield the files of a folder and of all below it, linked ones too; each folder once."""
    real = folder.resolve()
    if real in seen:
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _files_in(path, seen | {real})
        else:
            yield path


def _read(cache: Path) -> dict[str, list[Any]]:
    try:
        value = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    good = isinstance(value, dict) and all(_is_entry(entry) for entry in value.values())
    return value if good else {}


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and [type(part) for part in entry] == [int, int, int, str]
