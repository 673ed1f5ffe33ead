"""Videos in a directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kinetoscope.core.errors import DataError, NotFoundError, StorageError
from kinetoscope.core.uris import is_text
from kinetoscope.data.sources.listing import (
    VIDEO_SUFFIXES,
    WHAT_TO_GIVE,
    SourceFile,
    SourceListing,
    changed_since,
    in_order,
    is_source,
    suffix_of,
)
from kinetoscope.storage.own_folders import own_folders

_LINKED_FOLDER = "a link to a folder, which is not followed"


@dataclass(frozen=True, slots=True)
class LocalBytes:
    """The content of a file on this machine."""

    path: Path

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file; see ``ByteSource``."""
        try:
            # What was a video may be a pipe by now, whose opening would wait for a writer.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"{self.path} is gone") from None
        except OSError as error:
            raise StorageError(f"{self.path} can't be read: {error.strerror}") from error
        try:
            return _read(descriptor, offset, length)
        except OSError as error:
            raise StorageError(f"{self.path} can't be read: {error.strerror}") from error
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class DirectoryPlace:
    """A directory of videos, and of the captions beside them.

    Args:
        path: absolute.
    """

    path: Path
    is_local: ClassVar[bool] = True

    @property
    def uri(self) -> str:
        """What people call it."""
        return str(self.path)

    def list(self) -> SourceListing:
        """List videos and sidecar files, recursively; hidden files and folders are left out.

        So are the folders that Kinetoscope made itself: else a workspace in the directory would
        turn each run's samples into the next one's videos.

        A link to a folder, which is not followed, a link that leaves the directory, a pipe, a
        device, a folder that is named as a video and a name that is not UTF-8 are listed as
        refused; videos in such a folder are listed, too. No content is read, so versions are empty.

        Raises:
            DataError: the directory does not exist, can't be read, or its path is no text.
        """
        root = _checked(self.path)
        files: list[SourceFile] = []
        num_left_out = 0
        for folder, folders, names in os.walk(root, onerror=_unless_gone):
            own = own_folders(Path(folder), folders)
            num_left_out += len(own)
            folders[:] = sorted({name for name in folders if not name.startswith(".")} - own)
            paths = [Path(folder, name) for name in names if is_source(name)]
            files += [_describe(path, root) for path in [*paths, *_odd(folder, folders)]]
        return SourceListing(in_order(iter(files)), num_left_out)

    def bytes_of(self, name: str, digest: str) -> LocalBytes:
        """Return the content of a file."""
        del digest
        return LocalBytes(self.path / name)

    def fetch(self, file: SourceFile, folder: Path) -> Path:
        """Return the file itself."""
        del folder
        return self.path / file.name

    def mismatch(self, file: SourceFile) -> DataError:
        """Return the error for content of another digest than was listed."""
        return changed_since(file, self.uri, "was changed")


def _checked(path: Path) -> Path:
    if not path.is_dir():
        raise DataError(
            f"{path} is not a directory of videos",
            hint=WHAT_TO_GIVE,
        )
    root = path.resolve()
    if not is_text(root):
        raise DataError(
            f"the directory of videos {str(root)!r} has no UTF-8 path",
            hint="rename it, or give a copy of it",
        )
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"the directory {root} can't be read by this user", hint="see ls -ld")
    return root


def _unless_gone(error: OSError) -> None:
    """Let a folder that can't be read not pass for an empty one."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise DataError(
            f"the folder {error.filename} can't be read ({error.strerror})",
            hint="let this user read it, or move it out of the folder of videos",
        )


def _odd(folder: str, folders: Iterable[str]) -> Iterator[Path]:
    """Yield the folders that somebody may take for looked into, or for videos."""
    for name in folders:
        path = Path(folder, name)
        if suffix_of(name) in VIDEO_SUFFIXES or path.is_symlink():
            yield path


def _describe(path: Path, root: Path) -> SourceFile:
    name = path.relative_to(root).as_posix()
    shown = name.encode("utf-8", "backslashreplace").decode()
    if shown != name:
        return SourceFile(shown, refused="its name is not valid UTF-8")
    try:
        # Only a link can lead elsewhere: links to folders are not followed.
        target = path.resolve(strict=True) if path.is_symlink() else path
        status = target.stat()
    except (OSError, RuntimeError) as error:
        return SourceFile(name, refused=f"a broken link ({type(error).__name__})")
    if stat.S_ISDIR(status.st_mode):
        is_link = target != path
        return SourceFile(name, refused=_LINKED_FOLDER if is_link else "a folder, not a file")
    refused = _refusal(target, status.st_mode, root)
    return SourceFile(name, refused=refused) if refused else SourceFile(name, status.st_size)


def _refusal(target: Path, mode: int, root: Path) -> str | None:
    if not target.is_relative_to(root):
        return "a link that leaves the directory"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    return None if os.access(target, os.R_OK) else "not readable for this user"


def _read(descriptor: int, offset: int, length: int) -> bytes:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise NotFoundError("it is no regular file any more")
    return b"".join(_pieces(descriptor, offset, length))


def _pieces(descriptor: int, offset: int, length: int) -> Iterator[bytes]:
    while length and (piece := os.pread(descriptor, length, offset)):
        yield piece
        offset, length = offset + len(piece), length - len(piece)
