"""How a player shows a stored frame: turned, mirrored, with square pixels, in RGB.

What a file says of it, and what becomes of that:

* the display matrix (phones): frames are turned and mirrored by it, in steps of 90 degrees;
* the sample aspect ratio (anamorphic video): frames are widened or narrowed to square pixels, as
  ffmpeg's ``scale=iw*sar:ih`` does;
* interlacing, high dynamic range, 360 degree and stereo pictures: told, and used as stored
  (`peculiarities`);
* cover pictures are no video;
* colour matrix and range: converted by what is declared; as ffmpeg, without a declaration by
  BT.601 in limited range; colour samples lie at the left, as H.264 has them without a declaration.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorTrc, Interpolation

if TYPE_CHECKING:
    import av

Frames = npt.NDArray[np.uint8]

# swscale's default shortcuts cost 2 to 4 levels of mean error in red and blue; these flags 0.5.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

# Files give ratios of 1:1 in unlike digits, and broken ones.
_NEARLY_SQUARE = 0.01
_WIDEST_PIXEL = 8
# A display matrix is a 3 x 3 matrix of 16.16 and 2.30 fixed point numbers.
_MATRIX = struct.Struct("<9i")
_NEARLY_ZERO = 1 / 256
_HDR_TRANSFERS = frozenset({ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67})


class UnsupportedTurnError(ValueError):
    """A frame is to be turned by an angle that is no multiple of 90 degrees."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a display matrix does: a quarter turn or not, then mirroring of rows and columns.

    Attributes:
        transposed: rows become columns.
        flipped_down: then upside down.
        flipped_across: then left becomes right.
    """

    transposed: bool = False
    flipped_down: bool = False
    flipped_across: bool = False

    def apply(self, image: Frames) -> Frames:
        """Return an image ``H W C`` as it is shown."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        image = image[::-1] if self.flipped_down else image
        image = image[:, ::-1] if self.flipped_across else image
        return np.ascontiguousarray(image)


def shown_stream(container: Any) -> Any | None:
    """Return the video stream that a player shows: never a cover picture; None without one."""
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    best = container.streams.best("video")
    return best if best in streams else next(iter(streams), None)


def turn_of(frame: av.VideoFrame) -> Turn:
    """Return how a decoded frame is turned.

    Raises:
        UnsupportedTurnError: by no multiple of 90 degrees.
    """
    found: Any = frame.side_data.get("DISPLAYMATRIX")
    data = bytes(found) if found is not None else b""
    if len(data) < _MATRIX.size:
        return Turn()
    # x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 6.2.2); translations are of no account.
    a, b, _, c, d, *_ = (value / 65536 for value in _MATRIX.unpack(data[: _MATRIX.size]))
    along, turned = (_sign(a), _sign(d)), (_sign(b), _sign(c))
    if all(along) and not any(turned):
        return Turn(flipped_down=along[1] < 0, flipped_across=along[0] < 0)
    if all(turned) and not any(along):
        return Turn(transposed=True, flipped_down=turned[0] < 0, flipped_across=turned[1] < 0)
    if not any((*along, *turned)):
        return Turn()  # a matrix of zeros says nothing
    angle = math.degrees(math.atan2(b, a))
    raise UnsupportedTurnError(f"frames are to be turned by {angle:.1f} degrees, not by 90 or 180")


def pixel_aspect(stream: Any) -> Fraction:
    """Return a pixel's width over its height in a video stream; 1 where none is declared."""
    declared = stream.sample_aspect_ratio or Fraction(1)
    aspect = Fraction(declared)
    if not Fraction(1, _WIDEST_PIXEL) <= aspect <= _WIDEST_PIXEL:
        return Fraction(1)
    return Fraction(1) if abs(float(aspect) - 1) <= _NEARLY_SQUARE else aspect


def square_size(height: int, width: int, aspect: Fraction) -> tuple[int, int]:
    """Return (height, width) of a stored frame with square pixels."""
    return height, max(1, int(width * aspect))


def to_rgb(frame: av.VideoFrame, aspect: Fraction = Fraction(1)) -> Frames:
    """Convert a decoded frame to RGB uint8 ``H W C`` as it is shown.

    Args:
        frame: as it was decoded.
        aspect: of its pixels (`pixel_aspect`).
    """
    height, width = square_size(frame.height, frame.width, aspect)
    shown = frame.reformat(width=width, height=height, format="rgb24", interpolation=EXACT)
    image = np.asarray(shown.to_ndarray(), dtype=np.uint8)
    turn = turn_of(frame)
    return turn.apply(image) if turn != Turn() else image


def peculiarities(frame: av.VideoFrame, aspect: Fraction, turn: Turn) -> set[str]:
    """Return which `peculiarities` a frame has, whose pixels have an aspect and that is turned."""
    found = {
        "turned": turn != Turn(),
        "anamorphic": aspect != 1,
        "interlaced": frame.interlaced_frame,
        "hdr": frame.color_trc in _HDR_TRANSFERS,
        "spherical": frame.side_data.get("SPHERICAL") is not None,
        "stereo": frame.side_data.get("STEREO3D") is not None,
    }
    return {name for name, holds in found.items() if holds}


def _sign(value: float) -> int:
    """Return 0 for what is nearly 0."""
    return 0 if abs(value) < _NEARLY_ZERO else (1 if value > 0 else -1)
