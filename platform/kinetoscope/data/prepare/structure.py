"""Tells from a file's bytes what it is, and whether it was cut off.

Counts and durations in headers are no proof: many writers get them wrong, or never come to correct
them. Each of these containers says of its parts how long they are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kinetoscope.data.sources.reader import SeekableFile

_HEAD_BYTES = 4096
# Text formats that name other files: HLS, concat scripts, DASH, SDP, edit lists of players.
_PLAYLIST_MARKS = (b"#EXTM3U", b"ffconcat", b"<MPD", b"[playlist]", b"<smil", b"rtsp://")
_NO_VIDEOS = {
    b"GIF8": "a GIF",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
}
_TAR_AT, _TAR = 257, b"ustar"
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b"))
_EBML = b"\x1a\x45\xdf\xa3"
_MOST_PARTS = 100_000


def names_files(file: SeekableFile) -> bool:
    """Tell whether a file is a text by which libav would open others."""
    file.seek(0)
    head = file.read(_HEAD_BYTES).lower()
    return b"\0" not in head and any(mark.lower() in head for mark in _PLAYLIST_MARKS)


def other_kind(file: SeekableFile) -> str | None:
    """Return what a file is that is no video in a container of ours; None where it may be one."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    start = head.lstrip().lower()
    for magic, kind in _NO_VIDEOS.items():
        if head.startswith(magic) or start.startswith(magic):
            return kind
    if head[_TAR_AT:].startswith(_TAR):
        return "a tar archive"
    return "a text" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    """Tell whether a file begins as texts do: no container of ours has only printable bytes."""
    return bool(head) and head.translate(None, _CONTROLS) == head and head.isascii()


def is_cut_off(file: SeekableFile, size_bytes: int) -> bool:
    """Tell whether an MP4, MOV, AVI, Matroska or WebM file ends inside one of its parts.

    Args:
        file: open for reading; its position changes.
        size_bytes: of the file.
    """
    file.seek(0)
    head = file.read(12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _walk(file, size_bytes, _box_bytes)
    if head[:4] == b"RIFF":
        return _walk(file, size_bytes, _chunk_bytes)
    if head[:4] == _EBML:
        return _walk(file, size_bytes, _element_bytes)
    return False


def _walk(file: SeekableFile, size_bytes: int, part_bytes: Callable[[bytes], int | None]) -> bool:
    """Go from part to part; tell whether one ends after the file does."""
    position = 0
    for _ in range(_MOST_PARTS):
        if position >= size_bytes:
            return position > size_bytes
        file.seek(position)
        length = part_bytes(file.read(24))
        if length is None:
            return False  # it goes on to the end, or is none of these
        position += length
    return False


def _box_bytes(head: bytes) -> int | None:
    """ISO/IEC 14496-12, 4.2: size, type, and a longer size where that is 1; 0 is to the end."""
    if len(head) < 8:  # noqa: PLR2004 (size and type)
        return 8
    size = int(struct.unpack(">I", head[:4])[0])
    if size == 1 and len(head) >= 16:  # noqa: PLR2004 (64 bits of size follow)
        size = int(struct.unpack(">Q", head[8:16])[0])
    return size if size >= 8 else None  # noqa: PLR2004


def _chunk_bytes(head: bytes) -> int | None:
    """RIFF: a name and a size, of AVI's parts of up to 2 GiB; a writer that was killed left 0."""
    if len(head) < 8 or head[:4] != b"RIFF":  # noqa: PLR2004 (name and size)
        return None
    size = int(struct.unpack("<I", head[4:8])[0])
    return 8 + size + size % 2 if size and size != 2**32 - 1 else None


def _element_bytes(head: bytes) -> int | None:
    """EBML (RFC 8794, 4): an identifier and a size of 1 to 8 bytes; all ones are unknown."""
    id_length = _vint_length(head[0]) if head else 0
    if not id_length or len(head) <= id_length:
        return None
    length = _vint_length(head[id_length])
    value = head[id_length : id_length + length]
    if not length or len(value) < length:
        return None
    size = int.from_bytes(value, "big") & ((1 << 7 * length) - 1)
    if size == (1 << 7 * length) - 1:
        return None
    return id_length + length + size


def _vint_length(first: int) -> int:
    return 9 - first.bit_length() if first else 0
