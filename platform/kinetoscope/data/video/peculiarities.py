"""What people are told of how videos are shown (`display` finds it; no decoder is needed here)."""

from __future__ import annotations

PECULIARITIES = {
    "turned": "turned or mirrored, as players do",
    "anamorphic": "brought to square pixels",
    "interlaced": "interlaced: fields are used as they are stored",
    "hdr": "of high dynamic range: tones are not mapped",
    "spherical": "of 360 degrees: the stored picture is used",
    "stereo": "stereo: the stored picture is used",
}
"""What people are told of videos that are shown otherwise than they are stored, or should be."""
