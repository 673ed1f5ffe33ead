"""Folders for temporary files, which are swept once their owner is gone, however it ended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from kinetoscope.core.errors import CorruptError
from kinetoscope.steps.process_identity import ProcessIdentity

_OWNER = "owner.json"


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
    """Give such a folder, which is deleted at the end."""
    folder = make_scratch(root, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> None:
    """Delete the folders whose owner is known to be gone."""
    for note in root.glob(f"*/{_OWNER}"):
        with suppress(OSError, CorruptError):
            if ProcessIdentity.from_bytes(note.read_bytes(), str(note)).is_gone():
                shutil.rmtree(note.parent, ignore_errors=True)
