"""What a verb is to read and to write, looked at before it starts anything that takes long."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kinetoscope.core.errors import UserError


def check_inputs(paths: Iterable[Path | None]) -> None:
    """Raise ``NotFoundError`` where one of the paths that were given does not exist."""
    from kinetoscope.core.errors import NotFoundError

    for path in paths:
        if path is not None and not path.exists():
            raise NotFoundError(f"{path} does not exist", hint="give a file or folder that does")


def check_file(path: Path) -> None:
    """Raise ``UserError`` unless a file can be written here; its folder need not exist yet."""
    if path.is_dir():
        raise _error(path, "is a folder", "name a file in it")
    _check_place(path)


def check_empty_folder(path: Path) -> None:
    """Raise ``UserError`` unless this is an empty folder, or a new one can be made here."""
    if path.is_dir() and any(path.iterdir()):
        raise _error(path, "is not empty", "give a new folder")
    if path.exists() and not path.is_dir():
        raise _error(path, "is a file", "give a new folder")
    _check_place(path)


def _check_place(path: Path) -> None:
    from kinetoscope.core.machine_limits import existing

    found = existing(path.absolute())
    if not found.is_dir() and found != path.absolute():
        raise _error(path, f"can't be made: {found} is a file", "give a path below a folder")
    if not os.access(found, os.W_OK):
        what = f"can't be written: {found} is read-only, or you may not write there"
        raise _error(path, what, "give a path in a folder that you may write to")


def _error(path: Path, what: str, hint: str) -> UserError:
    from kinetoscope.core.errors import UserError

    return UserError(f"{path} {what}", hint=hint)
