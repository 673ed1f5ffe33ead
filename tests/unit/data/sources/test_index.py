from __future__ import annotations

import pytest

from kinetoscope.core.errors import CorruptError
from kinetoscope.data.sources.blocks import BlockDigests
from kinetoscope.data.sources.frame_times import FrameTimes
from kinetoscope.data.sources.index import IndexedVideo, read_index, write_index

VIDEOS = [
    IndexedVideo(BlockDigests(5, "sha256:b", b"x" * 32), FrameTimes(0, (1025, 2))),
    IndexedVideo(BlockDigests(2**33, "sha256:a", b"y" * 64), FrameTimes(-3, listed=(-3, 4, 9))),
    IndexedVideo(BlockDigests(0, "sha256:c", b"")),
]


def test_what_is_written_is_read_back_and_equal_sets_give_equal_bytes() -> None:
    data = write_index(VIDEOS)
    assert write_index([*VIDEOS[::-1], VIDEOS[0]]) == data
    index = read_index(data, "videos.parquet")
    assert {name: index[name] for name in index} == {v.blocks.digest: v for v in VIDEOS}
    assert "sha256:d" not in index


@pytest.mark.parametrize("data", [b"", b"PAR1" * 9])
def test_what_is_no_index_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(CorruptError, match=r"videos\.parquet is no"):
        read_index(data, "videos.parquet")
