"""The ffmpeg that comes as a package: makes odd videos, and judges how they are shown."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

# A picture that is unlike itself however it is turned or mirrored.
PICTURE = "testsrc2=size=96x64:rate=12:duration=2"
_EXACT = "flags=bicubic+accurate_rnd+full_chroma_int"


def ffmpeg(*arguments: Any) -> bytes:
    """Run ffmpeg and return what it wrote to its standard output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-bitexact"]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def picture(path: Path, *options: str, source: str = PICTURE, codec: str = "libx264") -> Path:
    """Write a video of moving patterns, nearly without loss."""
    quality = ("-crf", "4") if codec == "libx264" else ("-q:v", "2")
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", codec, *quality, *options, path)
    return path


def shown_by_ffmpeg(
    path: Path, size: tuple[int, int], *, before: tuple[str, ...] = (), filters: str = "null"
) -> npt.NDArray[np.uint8]:
    """Return the frames ``T H W 3`` as ffmpeg shows them, with square pixels.

    Colour samples lie where H.264 has them without a word: ffmpeg alone would take the centre.

    Args:
        path: of the video.
        size: (H, W) that is expected; other sizes fail.
        before: options for reading.
        filters: applied before the pixels are made square.
    """
    scale = f"scale=trunc(iw*max(sar\\,0.001)):ih:{_EXACT}:in_chroma_loc=left"
    square = f"{filters},{scale},format=rgb24,setsar=1"
    output = ("-fps_mode", "passthrough", "-f", "rawvideo", "-")
    raw = ffmpeg(*before, "-i", path, "-vf", square, *output)
    return np.frombuffer(raw, np.uint8).reshape(-1, *size, 3)
