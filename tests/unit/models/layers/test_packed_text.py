"""How the rows of packed text are laid out, on the host."""

from __future__ import annotations

import pytest
import torch

from kinetoscope.models.layers.packed_text import PackedText, pack, pack_again, text_places

MASK = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])


def test_rows_are_the_tokens_that_count_and_one_for_each_empty_text() -> None:
    places = text_places(MASK).tolist()
    used = [[0, 1], [0, 3], [1, -1], [2, 0], [2, 1], [2, 2], [2, 3], [3, -1]]
    assert places == used + 8 * [[4, -1]], "no more rows than padded text has"


@pytest.mark.parametrize(("used", "rows"), [(1, 256), (256, 256), (257, 512), (600, 768)])
def test_rows_are_a_multiple_of_256(used: int, rows: int) -> None:
    mask = torch.arange(2000) < torch.tensor([[used - 1], [0]])
    places = text_places(mask)
    assert len(places) == rows
    text = PackedText.at(torch.zeros(rows, 1), places, batch=2, max_tokens=2000)
    assert text.offsets.dtype is torch.int32
    assert text.offsets.tolist() == [0, max(used - 1, 1), max(used - 1, 1) + 1]
    assert int((~text.padding_P1).sum()) == used - 1


def test_text_packed_by_others_gets_rows_for_empty_texts() -> None:
    given = torch.arange(1.0, 6.0)[None, :, None]
    rows, places = pack_again(given, (2, 0, 3))
    assert places[:6].tolist() == [[0, 0], [0, 1], [1, -1], [2, 0], [2, 1], [2, 2]]
    assert rows.flatten().tolist() == [1, 2, 0, 3, 4, 5, 0, 0, 0]
    assert pack_again(given[:, :0], torch.tensor([0, 0]))[0].flatten().tolist() == [0, 0]


def test_text_without_any_token_is_packed_too() -> None:
    for mask in (None, torch.zeros(2, 0)):
        rows, places = pack(torch.zeros(2, 0, 3), mask)
        assert rows.tolist() == 2 * [[0, 0, 0]]
        assert places.tolist() == [[0, -1], [1, -1]]


def test_without_a_mask_all_tokens_count_and_nothing_is_copied() -> None:
    text = torch.randn(2, 3, 4)
    rows, places = pack(text, None)
    assert rows.data_ptr() == text.data_ptr()
    assert torch.equal(places, text_places(torch.ones(2, 3)))
