"""Folders that Kinetoscope made, told from a user's: what lies in them is nobody's input.

A workspace, an object store in a folder and the output of ``kino data prepare`` have a file
``.kinetoscope-folders`` that names those of their folders that are ours. Ones made before there was
such a file are known by what they hold.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from kinetoscope.storage.directory import DirectoryStore

MARKER = ".kinetoscope-folders"
WORKSPACE_FOLDERS = frozenset({"logs", "mlartifacts", "objects", "scratch"})
STORE_FOLDERS = frozenset({"models", "runs", "steps"})

_NOTE = "# Kinetoscope made these folders here. It takes nothing in them for videos or captions."
# A folder of videos may hold anything under that name.
_MOST_BYTES = 4096


def mark_own(folder: Path, names: Collection[str]) -> None:
    """Note that these folders in ``folder``, which need not exist yet, are ours."""
    noted = _noted(folder)
    if not noted >= set(names):
        lines = [_NOTE, *sorted(noted | set(names))]
        DirectoryStore(folder).put_bytes(MARKER, "".join(f"{line}\n" for line in lines).encode())


def own_folders(folder: Path, names: Collection[str]) -> frozenset[str]:
    """Return those folders in ``folder`` that are ours, of ``names``, which are all that it has."""
    own = _noted(folder)
    if _looks_like_a_store(folder, names):
        own |= STORE_FOLDERS
    if _looks_like_a_workspace(folder, names):
        own |= WORKSPACE_FOLDERS
    return own & frozenset(names)


def _noted(folder: Path) -> frozenset[str]:
    path = folder / MARKER
    try:
        if not path.is_file():  # a pipe would be read for ever
            return frozenset()
        with path.open("rb") as file:
            lines = file.read(_MOST_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _looks_like_a_workspace(folder: Path, names: Collection[str]) -> bool:
    if "objects" in names and _looks_like_a_store(folder / "objects", STORE_FOLDERS):
        return True
    return "mlartifacts" in names and (folder / "mlflow.db").is_file()  # the store is elsewhere


def _looks_like_a_store(folder: Path, names: Collection[str]) -> bool:
    if not {"runs", "steps"} <= set(names):
        return False
    return any(folder.glob("runs/*/run.json")) and (folder / "steps").is_dir()
