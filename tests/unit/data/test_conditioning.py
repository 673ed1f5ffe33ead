from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetoscope.data.conditioning import condition_text, split_conditioning


def test_scores_follow_the_caption_in_one_format() -> None:
    text = condition_text("a red circle moving left", {"motion": 3.24, "quality": 0.75})
    assert text == "a red circle moving left. motion score: 3.2. quality score: 0.8."
    assert condition_text("Look!", {"motion": -0.01}) == "Look! motion score: 0.0."
    assert condition_text("", {"quality": 1}) == "quality score: 1.0."


@given(
    caption=st.text(st.sampled_from("ab .!?\n:3motion score"), max_size=30),
    motion=st.floats(0, 1e4),
    quality=st.floats(0, 1),
)
def test_conditioning_twice_is_conditioning_once(
    caption: str, motion: float, quality: float
) -> None:
    scores = {"motion": motion, "quality": quality}
    once = condition_text(caption, scores)
    assert condition_text(once, scores) == once
    assert split_conditioning(once)[1] == {name: round(value, 1) for name, value in scores.items()}


def test_new_scores_replace_the_old_ones() -> None:
    old = condition_text("a dog", {"motion": 1.0, "quality": 0.5})
    assert condition_text(old, {"motion": 9.0}) == "a dog. motion score: 9.0."
    assert split_conditioning("the final score: 3.") == ("the final score: 3.", {}, None)


def test_an_unknown_score_is_refused() -> None:
    with pytest.raises(ValueError, match=r"beauty.*motion"):
        condition_text("a dog", {"beauty": 1.0})
