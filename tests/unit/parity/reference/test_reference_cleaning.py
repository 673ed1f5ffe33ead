from __future__ import annotations

import pytest

from kinetoscope.core.errors import DataError
from kinetoscope.data.text.cleaning import clean_caption
from kinetoscope.parity.reference.cleaning import reference_clean_caption


def test_the_reference_leaves_nothing_of_a_chinese_caption() -> None:
    assert reference_clean_caption("\u4e00\u53ea\u732b\u5728\u7761\u89c9") == ""


@pytest.mark.parametrize("text", ["a cat <![x a", "a cat \ud800"])
def test_the_reference_refuses_broken_markup_and_half_characters_that_ours_takes(text: str) -> None:
    with pytest.raises(DataError, match="can't be parsed"):
        reference_clean_caption(text)
    assert clean_caption(text).startswith("a cat")
