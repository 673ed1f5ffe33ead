"""An object store in a directory."""

from __future__ import annotations

import errno
import os
import shutil
import stat as file_kinds
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from kinetoscope.core.errors import NotFoundError
from kinetoscope.core.hashing import digest_file
from kinetoscope.storage.keys import check_key
from kinetoscope.storage.store import ObjectStat, ReplacedError, check_range

if TYPE_CHECKING:
    from collections.abc import Iterator

# Unfinished writes lie beside their target under this prefix and are never listed.
_PARTIAL = ".partial-"
_ABANDONED_SECONDS = 24 * 3600.0
_COPY_BYTES = 1 << 20


class DirectoryStore:
    """Objects as files. A write goes to a file beside the target, is synced and then renamed.

    The folder is synced, too, before a write returns: what was written is there after a power cut.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def uri(self) -> str:
        """URI of the root, without a trailing slash."""
        return self._root.as_uri()

    def put_bytes(self, key: str, data: bytes) -> None:
        """Create or replace an object."""
        with self._partial(key) as (partial, target):
            _write(partial, data)
            partial.replace(target)
            _sync_folder(target.parent)

    def put_bytes_if_absent(self, key: str, data: bytes) -> bool:
        """Create an object; return False, and change nothing, when it exists."""
        with self._partial(key) as (partial, target):
            _write(partial, data)
            try:
                # A hard link appears whole, and fails when the name is taken: rename would replace.
                os.link(partial, target)
            except FileExistsError:
                return False
            _sync_folder(target.parent)
        return True

    def put_file(self, key: str, path: Path, *, digest: str = "") -> None:
        """Create or replace an object with the content of a local file; see ``ObjectStore``."""
        with self._partial(key) as (partial, target):
            shutil.copyfile(path, partial)
            if digest and digest_file(partial) != digest:
                raise ReplacedError(f"the content of {path} is not {digest}")
            _sync(partial)
            partial.replace(target)
            _sync_folder(target.parent)

    def get_bytes(self, key: str) -> bytes:
        """Return the content; raises ``NotFoundError``."""
        with self._object(key) as file:
            return file.read_bytes()

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` on, fewer where the object ends before."""
        check_range(offset, length)
        with self._object(key) as path, path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            start = file.seek(min(offset, size_bytes))
            # No more than there is: the buffer is made as large as what is asked for.
            return file.read(min(length, size_bytes - start))

    def get_file(self, key: str, path: Path, *, etag: str = "") -> None:
        """Write the content to a local file; see ``ObjectStore``."""
        with self._object(key) as name, name.open("rb") as file:
            found = _etag(os.fstat(file.fileno()))
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy, _COPY_BYTES)
            # Written in place meanwhile: what was copied is of two moments.
            changed = _etag(os.fstat(file.fileno())) != found
        if etag and (changed or found != etag):
            raise ReplacedError(f"object {key!r} in {self.uri} is another one than {etag}")

    def digest(self, key: str) -> str:
        """Return the sha256 of the content; raises ``NotFoundError``."""
        with self._object(key) as file:
            return digest_file(file)

    def local_path(self, key: str) -> Path | None:
        """Return the file that holds the object."""
        return self._path(key)

    def stat(self, key: str) -> ObjectStat | None:
        """Describe an object, or return None when there is none."""
        try:
            status = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _describe(key, status) if file_kinds.S_ISREG(status.st_mode) else None

    def list(self, prefix: str = "") -> list[ObjectStat]:
        """Return the object named ``prefix`` and all below ``prefix/``, sorted by key."""
        top = self._path(prefix) if prefix else self._root
        if top.is_file():
            return [_describe(prefix, top.stat())]
        found = []
        for folder, _, names in os.walk(top, onerror=_unless_gone):
            for name in names:
                path = Path(folder, name)
                if name.startswith(_PARTIAL):
                    _delete_if_abandoned(path)
                else:
                    try:
                        status = path.stat()
                    except FileNotFoundError:  # deleted meanwhile
                        continue
                    found.append(_describe(path.relative_to(self._root).as_posix(), status))
        return sorted(found, key=lambda stat: stat.key)

    def delete(self, key: str) -> None:
        """Delete an object; nothing happens when there is none."""
        self._path(key).unlink(missing_ok=True)

    def delete_prefix(self, prefix: str) -> None:
        """Delete the object named ``prefix`` and all below ``prefix/``."""
        path = self._path(prefix)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    @contextmanager
    def _object(self, key: str) -> Iterator[Path]:
        """Give an object's file; that there is none is told by the key."""
        try:
            yield self._path(key)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotFoundError(f"no object {key!r} in {self.uri}") from None

    @contextmanager
    def _partial(self, key: str) -> Iterator[tuple[Path, Path]]:
        target = self._path(key)
        _make_folder(target.parent)
        partial = target.with_name(f"{_PARTIAL}{uuid4().hex}")
        try:
            yield partial, target
        finally:
            partial.unlink(missing_ok=True)


def _describe(key: str, status: os.stat_result) -> ObjectStat:
    return ObjectStat(key, status.st_size, _etag(status))


def _etag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def _delete_if_abandoned(partial: Path) -> None:
    """Delete what a writer left that was killed: nobody has written to it for a day."""
    with suppress(OSError):
        if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
            partial.unlink()


def _unless_gone(error: OSError) -> None:
    """Let a folder that can't be read not pass for an empty one."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; each is synced into the one that holds it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, where its file system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (PermissionError, FileNotFoundError):
        # A folder that may be written to need not be readable; one may be deleted meanwhile.
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems sync no folders.
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
