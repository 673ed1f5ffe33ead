from __future__ import annotations

from pathlib import Path

import pytest

from kinetoscope.data.prepare.fetching import fetch
from kinetoscope.data.sources.directory import DirectoryPlace
from kinetoscope.data.sources.reader import ChangedVideoError


def test_captions_that_change_after_they_were_looked_at_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text("path,text\na.mp4,a cat\n")
    place = DirectoryPlace(tmp_path)
    fetched = fetch(place, place.list().files[0], tmp_path)
    assert fetched.read() == path.read_bytes()
    path.write_text("path,text\na.mp4,a dog\n")
    with pytest.raises(ChangedVideoError, match=r"captions\.csv"):
        fetched.read()
