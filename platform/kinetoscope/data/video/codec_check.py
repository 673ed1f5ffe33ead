"""Encode and decode a few frames in memory: ``python -m kinetoscope.data.video.codec_check``.

A program of its own: the doctor, which asks it, never loads PyAV into its own process.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import av
import numpy as np

_ENCODERS = ("libx264", "libopenh264", "mpeg4")
_DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4")
_NUM_FRAMES, _SIZE = 6, 64


def try_encoder(name: str) -> str:
    """Return an empty string when frames written by the encoder come back, else what went wrong."""
    try:
        decoded = _decode(_encode(name))
    except (av.FFmpegError, ValueError) as error:  # an unknown encoder is a ValueError
        return f"{type(error).__name__}: {error}"
    return "" if decoded == _NUM_FRAMES else f"{decoded} of {_NUM_FRAMES} frames came back"


def missing_decoders() -> list[str]:
    """Return the usual formats of videos that this build of PyAV can't read."""
    return [name for name in _DECODERS if name not in av.codecs_available]


def _encode(name: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(name, rate=24)
        stream.height, stream.width, stream.pix_fmt = _SIZE, _SIZE, "yuv420p"
        for index in range(_NUM_FRAMES):
            image = np.full((_SIZE, _SIZE, 3), 40 * index, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _decode(data: bytes) -> int:
    with av.open(io.BytesIO(data), "r") as container:
        return len(list(container.decode(video=0)))


def main() -> None:
    """Write one JSON object: what each encoder said, and which decoders are missing."""
    told = {
        "encoders": {name: try_encoder(name) for name in _ENCODERS},
        "missing_decoders": missing_decoders(),
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
