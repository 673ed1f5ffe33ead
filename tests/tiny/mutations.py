"""Videos that were broken in drawn ways, as decoders meet them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

from tiny.ffmpeg import ffmpeg

SEEDS = {
    "h264.mp4": ("libx264", "-pix_fmt", "yuv420p"),
    "fragments.mp4": ("libx264", "-pix_fmt", "yuv420p", "-movflags", "frag_keyframe+empty_moov"),
    "mpeg4.mov": ("mpeg4",),
    "png.mov": ("png",),
    "vp8.webm": ("libvpx", "-deadline", "realtime"),
    "vp9.webm": ("libvpx-vp9", "-deadline", "realtime"),
    "mpeg4.avi": ("mpeg4",),
    "mjpeg.avi": ("mjpeg", "-pix_fmt", "yuvj420p"),
    "gif.mp4": ("gif", "-f", "gif"),
    "gif.mkv": ("gif",),
}
_SOURCE = "testsrc2=size=64x48:rate=12:duration=2"
_LENGTHS = (0, 1, 0xFFFF, 100_000, 10_000_000, 0x10000000, 0x7FFFFFFF, 0xFFFFFFFF)
_Change = Callable[[bytearray, random.Random], None]


def write_seeds(folder: Path) -> list[Path]:
    """Write a small video of each container and of several codecs."""
    folder.mkdir()
    for name, (codec, *options) in SEEDS.items():
        ffmpeg("-f", "lavfi", "-i", _SOURCE, "-c:v", codec, *options, folder / name)
    return sorted(folder.iterdir())


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return a file with one to five drawn changes."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 5])):
        if len(changed) > 64:
            chance.choice(_CHANGES)(changed, chance)
    return bytes(changed)


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 4, 16, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut_off(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(1, len(data)) :]


def _swap(data: bytearray, chance: random.Random) -> None:
    first, second = (chance.randrange(len(data)) for _ in range(2))
    size = chance.randrange(1, 512)
    data[first : first + size], data[second : second + size] = (
        data[second : second + size],
        data[first : first + size],
    )


def _repeat(data: bytearray, chance: random.Random) -> None:
    at, size = chance.randrange(len(data)), chance.randrange(1, 512)
    data[at:at] = data[at : at + size]


def _overwrite(data: bytearray, chance: random.Random) -> None:
    at, size = chance.randrange(len(data)), chance.randrange(1, 256)
    size = min(size, len(data) - at)
    data[at : at + size] = bytes(size) if chance.random() < 0.5 else chance.randbytes(size)


def _change_box(data: bytearray, chance: random.Random) -> None:
    """Blow up the size of a box, or double, empty or remove it."""
    at, size = _box(data, chance)
    kind = chance.randrange(4)
    if kind == 0:
        data[at : at + 4] = struct.pack(">I", chance.choice((*_LENGTHS, 2 * size)))
    elif kind == 1:
        data[at:at] = data[at : at + size]
    elif kind == 2:
        data[at + 8 : at + size] = bytes(max(0, size - 8))
    else:
        del data[at : at + size]


def _blow_up_field(data: bytearray, chance: random.Random) -> None:
    """Let one of the first fields of a box, or of the file, declare a huge number."""
    at, size = _box(data, chance)
    field = at + 8 + 4 * chance.randrange(max(1, min(size, 128) // 4))
    data[field : field + 4] = struct.pack(">I", chance.choice(_LENGTHS))[: len(data) - field]


_CHANGES: tuple[_Change, ...] = (
    *(_flip_bits, _cut_off, _swap, _repeat, _overwrite),
    *(_change_box, _change_box, _blow_up_field, _blow_up_field),
)


def _box(data: bytearray, chance: random.Random) -> tuple[int, int]:
    """Return where a box of MP4 lies, and its size; where there is none, any place."""
    found = []
    for at in range(4, len(data) - 4):
        if data[at : at + 4].isalnum():
            size = int.from_bytes(data[at - 4 : at], "big")
            if 8 <= size <= len(data):
                found.append((at - 4, size))
    return chance.choice(found) if found else (chance.randrange(len(data) - 16), 16)


def with_samples(data: bytes, count: int) -> bytes:
    """Return an MP4 of a few frames whose tables declare ``count`` of one byte."""
    changed = bytearray(data)
    for name, values in (("stsz", (1, count)), ("stsc", (1, 1, count, 1)), ("stts", (1, count, 1))):
        at = data.index(name.encode()) + 8
        changed[at : at + 4 * len(values)] = struct.pack(f">{len(values)}I", *values)
    return bytes(changed)


def with_size(data: bytes, width: int, height: int) -> bytes:
    """Return an MP4 that declares frames of another size, up to 65535 a side."""
    at = data.index(b"stsd") + 12 + 8 + 24
    return data[:at] + struct.pack(">HH", width, height) + data[at + 4 :]
