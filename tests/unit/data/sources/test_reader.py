from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetoscope.core.errors import NotFoundError, StorageError
from kinetoscope.data.sources.blocks import BLOCK_BYTES, BlockDigests, digest_blocks
from kinetoscope.data.sources.directory import LocalBytes
from kinetoscope.data.sources.reader import ChangedVideoError, VerifiedFile

CONTENT = os.urandom(3 * BLOCK_BYTES + 17)


class Recorded:
    """Bytes in memory that note what was asked for; ``damaged`` answers are wrong."""

    def __init__(self, content: bytes = CONTENT, damaged: int = 0) -> None:
        self.content, self.damaged = content, damaged
        self.asked: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.asked.append((offset // BLOCK_BYTES, -(-length // BLOCK_BYTES)))
        data = self.content[offset : offset + length]
        if self.damaged:
            self.damaged -= 1
            return data[:-1] + bytes([data[-1] ^ 1])
        return data


DIGESTS = digest_blocks(Recorded())


def opened(source: Recorded, digests: BlockDigests = DIGESTS, ahead: int = 1) -> VerifiedFile:
    return VerifiedFile(source, digests, "a.mp4", read_ahead=ahead)


@given(st.lists(st.tuples(st.integers(0, len(CONTENT) + 9), st.integers(-1, 2 * BLOCK_BYTES))))
def test_it_reads_what_a_file_would(places: list[tuple[int, int]]) -> None:
    with opened(Recorded(), ahead=3) as file:
        for offset, size in places:
            assert file.seek(offset) == offset
            expected = CONTENT[offset:] if size < 0 else CONTENT[offset : offset + size]
            assert file.read(size) == expected
            assert file.tell() == offset + len(expected)
        assert file.seek(-17, os.SEEK_END) == len(CONTENT) - 17
        assert file.read() == CONTENT[-17:]


def test_what_follows_is_asked_for_ahead_and_what_does_not_is_not() -> None:
    content = bytes(20 * BLOCK_BYTES)
    source = Recorded(content)
    with opened(source, digest_blocks(Recorded(content)), ahead=3) as file:
        for block in (0, 9, 10, 11, 12, 13, 14, 4):
            file.seek(block * BLOCK_BYTES)
            file.read(10)
        assert source.asked == [(0, 1), (9, 1), (10, 2), (12, 3), (4, 1)]
        file.seek(-BLOCK_BYTES - 5, os.SEEK_END)
        file.read()
        assert source.asked[5:] == [(18, 2)]


def test_one_garbled_answer_is_asked_for_again() -> None:
    source = Recorded(damaged=1)
    with opened(source) as file:
        assert file.read() == CONTENT
    assert source.asked == [(0, 1), (0, 1), (1, 1), (2, 1), (3, 1)]


@pytest.mark.parametrize(
    "content",
    [
        CONTENT[:-1],
        CONTENT[: BLOCK_BYTES // 2],
        CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]),
        b"",
        CONTENT + b"more",
    ],
    ids=["shorter", "much shorter", "other", "empty", "longer"],
)
def test_a_changed_file_is_told_by_name_on_leaving(content: bytes) -> None:
    file = opened(Recorded(content))
    # To libav it just ends, and stays so.
    assert file.read() == b""
    file.seek(0)
    assert file.read(1) == b""
    with pytest.raises(ChangedVideoError, match=r"a\.mp4 is not what it was"):
        file.check()
    with pytest.raises(ChangedVideoError), file:
        pass


def test_a_file_that_is_gone_or_no_file_any_more_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(CONTENT)
    file = VerifiedFile(LocalBytes(path), DIGESTS, "a.mp4")
    path.unlink()
    assert file.read(5) == b""
    with pytest.raises(ChangedVideoError, match="is gone"):
        file.check()
    os.mkfifo(path)
    with pytest.raises(NotFoundError):
        LocalBytes(path).read(0, 5)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(StorageError, match=r"a\.mp4 can't be read"):
        LocalBytes(path).read(0, 5)


def test_an_empty_file_has_no_blocks(tmp_path: Path) -> None:
    (tmp_path / "e").touch()
    digests = digest_blocks(LocalBytes(tmp_path / "e"))
    assert (digests.size_bytes, len(digests)) == (0, 0)
    with VerifiedFile(LocalBytes(tmp_path / "e"), digests, "e") as file:
        assert file.read() == b""
