"""Folders for temporary files, which are swept once their owner is gone, however it ended."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

from kinetoscope.core.errors import CorruptError
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.steps.repeating import Repeating

_OWNER = "owner.json"
_TOUCH_SECONDS = 3600.0
# Of an owner elsewhere, perhaps in a container that is gone, nothing is known: what nobody has
# written to for so long nobody uses.
_ABANDONED_SECONDS = 7 * 24 * 3600.0


def make_scratch(root: Path, name: str) -> Path:
    """Return a new folder, which nobody had before; those of dead owners in ``root`` go.

    Args:
        root: folder of all such folders.
        name: that its name begins with.
    """
    sweep(root)
    folder = root / f"{name}-{uuid4().hex[:12]}"
    folder.mkdir(parents=True)
    (folder / _OWNER).write_bytes(ProcessIdentity.of().to_bytes())
    return folder


@contextmanager
def scratch_folder(root: Path, name: str) -> Iterator[Path]:
    """Give such a folder, which is deleted at the end, however long nothing is written there."""
    folder = make_scratch(root, name)
    touching = Repeating(f"touching {folder}", partial(os.utime, folder / _OWNER), _TOUCH_SECONDS)
    try:
        yield folder
    finally:
        touching.stop()
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> None:
    """Delete the folders whose owner is gone."""
    for note in root.glob(f"*/{_OWNER}"):
        with suppress(OSError, CorruptError):
            owner = ProcessIdentity.from_bytes(note.read_bytes(), str(note))
            if owner.is_gone() or (not owner.is_here() and _is_abandoned(note.parent)):
                shutil.rmtree(note.parent, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    written_at = max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])
    return time.time() - written_at > _ABANDONED_SECONDS
