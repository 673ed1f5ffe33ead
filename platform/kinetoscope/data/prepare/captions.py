"""Captions from sidecar files.

* ``<video>.txt`` beside the video: the whole file is the caption.
* any ``*.csv`` with a column ``path`` and a column ``text`` (or ``caption``),
* any ``*.jsonl`` of objects with the same keys.

A path is relative to the list's own folder, or else to the top directory. The text file wins over
the lists; of two lists that name the same video, the one whose name sorts first. Files that hold no
such list are not captions and are passed over.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
from typing import TYPE_CHECKING, Any

from kinetoscope.core.errors import DataError
from kinetoscope.data.sources.listing import suffix_of
from kinetoscope.data.text.cleaning import clean_caption

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kinetoscope.data.config import CaptionsConfig
    from kinetoscope.data.sources.listing import SourceFile, SourceListing

_TEXT_KEYS = ("text", "caption")


def read_captions(listing: SourceListing, contents: Mapping[str, bytes]) -> dict[str, str]:
    """Return the captions by the video's name in the listing.

    Args:
        listing: of the videos and of the files that may hold captions.
        contents: of those files, by name, as far as they may be opened.

    Raises:
        DataError: a caption list is malformed; names the file and the line.
    """
    names = {video.name for video in listing.videos}
    captions: dict[str, str] = {}
    for sidecar in sorted(
        listing.sidecars, key=lambda file: not file.name.lower().endswith(".txt")
    ):
        if sidecar.name not in contents:
            continue
        for name, text in _entries(sidecar, _text(sidecar, contents[sidecar.name]), names):
            captions.setdefault(name, " ".join(text.split()))
    return captions


def caption_for(name: str, captions: dict[str, str], config: CaptionsConfig) -> str | None:
    """Return a video's caption; None when it has none and is to be dropped."""
    caption = captions.get(name, "")
    if config.clean:
        caption = clean_caption(caption)
    if caption:
        return caption
    if config.missing == "filename":
        stem = posixpath.splitext(posixpath.basename(name))[0]
        words = " ".join(re.split(r"[\W_]+", stem)).strip()
        return clean_caption(words) if config.clean else words
    return "" if config.missing == "empty" else None


def _entries(sidecar: SourceFile, content: str, names: set[str]) -> Iterator[tuple[str, str]]:
    suffix = suffix_of(sidecar.name)
    if suffix == ".txt":
        stem = posixpath.splitext(sidecar.name)[0]
        yield from ((name, content) for name in names if posixpath.splitext(name)[0] == stem)
        return
    rows = _csv_rows(sidecar, content) if suffix == ".csv" else _jsonl_rows(sidecar, content)
    folder = posixpath.dirname(sidecar.name)
    for path, text in rows:
        name = _find(path, folder, names)
        if name is not None:
            yield name, text


def _text(sidecar: SourceFile, data: bytes) -> str:
    try:
        # Line ends as Python's text files have them.
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{sidecar.name} is not UTF-8 (byte {error.start})", hint="save it as UTF-8"
        ) from error


def _find(path: str, folder: str, names: set[str]) -> str | None:
    path = path.replace("\\", "/")
    for candidate in (posixpath.normpath(posixpath.join(folder, path)), posixpath.normpath(path)):
        if candidate in names:
            return candidate
    return None


def _csv_rows(sidecar: SourceFile, content: str) -> Iterator[tuple[str, str]]:
    reader = csv.DictReader(io.StringIO(content, newline=""))
    try:
        columns = reader.fieldnames or []
        if "path" not in columns:
            return
        key = _text_key(sidecar, columns)
        for row in reader:
            yield row["path"] or "", row[key] or ""
    except csv.Error as error:
        raise DataError(f"{sidecar.name}, line {reader.line_num}: {error}") from error


def _jsonl_rows(sidecar: SourceFile, content: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except ValueError as error:
            raise DataError(f"{sidecar.name}, line {number}: no JSON ({error})") from error
        if not isinstance(row, dict) or "path" not in row:
            return
        text = row[_text_key(sidecar, row)]
        if not isinstance(row["path"], str) or not isinstance(text, str):
            raise DataError(f"{sidecar.name}, line {number}: path and text must be strings")
        yield row["path"], text


def _text_key(sidecar: SourceFile, columns: Iterable[str]) -> str:
    for key in _TEXT_KEYS:
        if key in columns:
            return key
    raise DataError(
        f"{sidecar.name} has a column 'path' but none of {list(_TEXT_KEYS)}: {list(columns)}"
    )
