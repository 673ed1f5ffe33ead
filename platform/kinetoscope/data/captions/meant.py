"""Tells whether a file that gave no caption was meant as captions of these videos.

Anything may lie beside videos: a half-written ``package.json``, a table in an old encoding. Only
what was meant as captions may stop a run that lacks them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from kinetoscope.data.captions.video_names import VideoNames
from kinetoscope.data.sources.listing import VIDEO_SUFFIXES, suffix_of

# Names of files that can't be meant for anything else.
_STEMS = re.compile(
    r"(video[_-]?)?(captions?|prompts?)|video[_-]?(metadata|annotations?)", re.IGNORECASE
)
_AROUND_NAMES = re.compile(r"""[\n,;|\t"'<>(){}\[\]]+""")
_SHORT_NUMBER = re.compile(r"[-+]?\d{0,3}(\.\d*)?")
_SAMPLED_CHARS = 1 << 18
_LONGEST_PATH = 4096


def is_named_as_captions(name: str) -> bool:
    """Tell whether a file's name says that it holds captions."""
    return bool(_STEMS.fullmatch(posixpath.splitext(posixpath.basename(name))[0]))


def is_of_videos(text: str, names: VideoNames, folder: str) -> bool:
    """Tell whether a text names the videos: one with its suffix, or two without.

    Args:
        text: what can be read of the file.
        names: of the videos.
        folder: of the file, below the place.
    """
    found: set[str] = set()
    for path in _paths(text[:_SAMPLED_CHARS]):
        match = names.find(path, folder)
        video = match.name if match is not None else names.named_alike(path)
        if video is not None:
            found.add(video)
            if suffix_of(path) in VIDEO_SUFFIXES or len(found) > 1:
                return True
    return False


def _paths(text: str) -> Iterator[str]:
    """Yield what may be a path; a short number may be anything."""
    for path in dict.fromkeys(map(str.strip, _AROUND_NAMES.split(text))):
        if path and len(path) <= _LONGEST_PATH and not _SHORT_NUMBER.fullmatch(path):
            yield path
