"""Sets of videos as ``kino data upload`` leaves them: objects by their content, and a manifest.

    <root>/manifests/<name>.json    a Manifest: the files of a set
    <root>/objects/<2>/<64>         contents, by the hex digits of their sha256

A manifest is replaced as a whole when its set is uploaded again; objects are never replaced, so
what a run has begun on stays readable.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar

from pydantic import Field

from kinetoscope.core.config_model import Record
from kinetoscope.core.errors import CorruptError, DataError, NotFoundError
from kinetoscope.core.uris import is_text
from kinetoscope.data.sources.blocks import ByteSource
from kinetoscope.data.sources.bucket import ObjectBytes
from kinetoscope.data.sources.listing import SourceFile, SourceListing, in_order, refused_name
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.records import read_record, shown_name
from kinetoscope.storage.store import ObjectStore

MANIFESTS = "manifests"
OBJECTS = "objects"
MANIFEST_SUFFIX = ".json"
FORMAT_VERSION = 1

_UPLOAD_TELLS = "kino data upload DIR writes one and tells its name"

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class ManifestFile(Record):
    """A file of a set."""

    digest: Digest
    size_bytes: Annotated[int, Field(ge=0)]


class Manifest(Record):
    """The files of a set of videos, by their names below the folder that was uploaded."""

    format_version: int = FORMAT_VERSION
    files: dict[str, ManifestFile]


@dataclass(frozen=True, slots=True)
class ManifestPlace:
    """A set of videos, named by its manifest.

    Args:
        store: rooted where ``manifests`` and ``objects`` are.
        key: of the manifest.
    """

    store: ObjectStore
    key: str
    is_local: ClassVar[bool] = False

    @property
    def uri(self) -> str:
        """What people call it."""
        return shown_name(self.store, self.key)

    def list(self) -> SourceListing:
        """List the set.

        Raises:
            DataError: there is no such manifest, or it is none.
        """
        files = read_manifest(self.store, self.key).files
        return SourceListing(
            in_order(
                SourceFile(name, file.size_bytes, file.digest)
                if _is_plain(name)
                else refused_name(name)
                for name, file in files.items()
            )
        )

    def bytes_of(self, name: str, digest: str) -> ByteSource:
        """Return the content of a file."""
        del name
        return ObjectBytes(self.store, object_key(digest))

    def fetch(self, file: SourceFile, folder: Path) -> Path:
        """Download a file; raises ``DataError`` where its object is gone."""
        path = folder / "object"
        key = object_key(file.digest)
        try:
            self.store.get_file(key, path)
        except NotFoundError:
            raise DataError(
                f"{file.name} of {self.uri} has no object {join_uri(self.store.uri, key)}",
                hint="kino data upload brings what is missing",
            ) from None
        return path

    def mismatch(self, file: SourceFile) -> DataError:
        """Return the error for content of another digest than was listed."""
        uri = join_uri(self.store.uri, object_key(file.digest))
        return DataError(
            f"{file.name} of {self.uri}: the content of {uri} is not what its name says",
            hint="delete that object; kino data upload then brings it again",
        )


def object_key(digest: str) -> str:
    """Return the key of a content."""
    hexadecimal = digest.removeprefix("sha256:")
    return f"{OBJECTS}/{hexadecimal[:2]}/{hexadecimal}"


def read_manifest(store: ObjectStore, key: str) -> Manifest:
    """Read a manifest.

    Raises:
        DataError: there is none, or it is none that this version reads.
    """
    name = shown_name(store, key)
    hint = _UPLOAD_TELLS
    try:
        manifest = read_record(store, key, Manifest)
    except CorruptError as error:
        raise DataError(f"no manifest of videos: {error.message}", hint=hint) from None
    if manifest is None:
        raise DataError(f"there is no manifest {name}", hint=hint)
    if manifest.format_version != FORMAT_VERSION:
        raise DataError(
            f"{name} has format {manifest.format_version}; this version reads {FORMAT_VERSION}",
            hint="update Kinetoscope",
        )
    return manifest


def _is_plain(name: str) -> bool:
    """Tell whether a file below a directory may be named so: with anything but what leads out."""
    path = PurePosixPath(name)
    plain = str(path) == name and name != "." and not path.is_absolute() and ".." not in path.parts
    return plain and "\0" not in name and is_text(Path(name))


def split_manifest(path: str) -> tuple[str, str]:
    """Return the root of a set and the key of its manifest, for the manifest's path or URI.

    Raises:
        DataError: it lies in no folder that could be one of a set.
    """
    above, name = posixpath.split(path)
    root, folder = posixpath.split(above)
    if not folder or root == "s3:":
        raise DataError(
            f"{path} is no manifest of videos: one lies in a folder, and that beside {OBJECTS!r}",
            hint=_UPLOAD_TELLS,
        )
    return root, f"{folder}/{name}"
