"""Videos below a prefix of an object store, under their own names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kinetoscope.core.errors import DataError, NotFoundError, StorageError
from kinetoscope.data.sources.blocks import ByteSource
from kinetoscope.data.sources.listing import (
    SourceFile,
    SourceListing,
    changed_since,
    in_order,
    is_source,
    refused_name,
    version_of,
)
from kinetoscope.storage.keys import check_key
from kinetoscope.storage.own_folders import STORE_FOLDERS
from kinetoscope.storage.store import ObjectStat, ObjectStore, ReplacedError

_RUN = re.compile(r"((?:.*/)?)runs/[^/]+/run\.json")


@dataclass(frozen=True, slots=True)
class ObjectBytes:
    """The content of an object."""

    store: ObjectStore
    key: str

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the object; see ``ByteSource``."""
        return self.store.get_range(self.key, offset, length)


@dataclass(frozen=True, slots=True)
class PrefixPlace:
    """Objects below a prefix: videos, and the captions beside them."""

    store: ObjectStore
    is_local: ClassVar[bool] = False

    @property
    def uri(self) -> str:
        """What people call it."""
        return self.store.uri

    def list(self) -> SourceListing:
        """List the objects that are named as videos or captions are.

        Left out is what a directory's listing leaves out: hidden names, and what Kinetoscope wrote
        there itself. A version is what the store calls the content of an object (its ETag).

        Raises:
            DataError: the server has no ETags: what is replaced there could not be told.
            StorageError: they can't be listed.
        """
        stats = self.store.list()
        own = _own_folders(stat.key for stat in stats)
        listed = [stat for stat in stats if not _within(stat.key, own)]
        found = [stat for stat in listed if _is_listed(stat.key)]
        if any(not stat.etag for stat in found):
            raise DataError(
                f"the server of {self.uri} gives no ETags: what is replaced could not be told",
                hint="kino data upload DIR --to s3://BUCKET/PREFIX keeps videos by their content",
            )
        files = in_order(map(_describe, found))
        return SourceListing(files, len(own))

    def bytes_of(self, name: str, digest: str) -> ByteSource:
        """Return the content of an object."""
        del digest
        return ObjectBytes(self.store, name)

    def fetch(self, file: SourceFile, folder: Path) -> Path:
        """Download an object to a file in the folder.

        Raises:
            DataError: it is another one than when it was listed, or gone.
        """
        path = folder / "object"
        try:
            self.store.get_file(file.name, path, etag=file.etag)
        except (ReplacedError, NotFoundError):
            raise changed_since(file, self.uri, "was replaced or deleted") from None
        return path

    def mismatch(self, file: SourceFile) -> DataError:
        """Return the error for content of another digest than was listed."""
        return changed_since(file, self.uri, "was changed")


def _describe(stat: ObjectStat) -> SourceFile:
    try:
        check_key(stat.key)
    except StorageError:
        return refused_name(stat.key)
    return SourceFile(stat.key, stat.size_bytes, version_of(stat.etag))


def _is_listed(key: str) -> bool:
    *folders, name = key.split("/")
    hidden = any(folder.startswith(".") for folder in folders if folder not in (".", ".."))
    return is_source(name) and not hidden


def _own_folders(keys: Iterator[str]) -> frozenset[str]:
    """Return the folders of object stores of ours, each with a slash at its end."""
    listed = list(keys)
    roots = {match[1] for match in map(_RUN.fullmatch, listed) if match}
    found = {f"{root}{name}/" for root in roots for name in STORE_FOLDERS}
    return frozenset(folder for folder in found if any(key.startswith(folder) for key in listed))


def _within(key: str, folders: Collection[str]) -> bool:
    return any(key.startswith(folder) for folder in folders)
