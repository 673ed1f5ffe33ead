"""Captions of videos and files that a test writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kinetoscope.data.captions.found import Captions
from kinetoscope.data.captions.gather import gather_captions
from kinetoscope.data.sources.directory import DirectoryPlace

Files = Mapping[str, str | bytes]


def gathered(directory: Path, files: Files) -> Captions:
    """Write files, and return the captions of all that lies there then."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    place = DirectoryPlace(directory)
    listing = place.list()
    sidecars = [file for file in listing.sidecars if not file.refused]
    contents = {file.name: (directory / file.name).read_bytes() for file in sidecars}
    return gather_captions(listing, contents, place.uri)


def texts(captions: Captions) -> dict[str, str]:
    """Return the captions found, by the video's name."""
    return {name: caption.text for name, caption in captions.by_video.items()}
