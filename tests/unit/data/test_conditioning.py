from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinetoscope.data.conditioning import (
    condition_text,
    count_too_long,
    fit_texts,
    split_conditioning,
)
from kinetoscope.models.text.config import SeededTableConfig
from kinetoscope.models.text.encoders import SeededTableEncoder


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


WORDS = "a man in a red coat walks along the street and looks at the sky"


def encoder(max_tokens: int = 16) -> SeededTableEncoder:
    return SeededTableEncoder(SeededTableConfig(width=8, max_tokens=max_tokens))


def test_a_long_caption_is_shortened_and_its_scores_stay() -> None:
    text = condition_text(WORDS, {"motion": 3.2, "quality": 0.5}, camera_motion="pan left")
    (fitted,) = fit_texts([text], encoder())
    assert fitted == (
        "a man in a red coat. motion score: 3.2. quality score: 0.5. camera motion: pan left."
    )
    assert count_too_long([fitted], encoder()) == 0


@pytest.mark.parametrize("caption", ["", "a dog", WORDS, "\u7ea2" * 60, "\u0932\u093e\u0932 " * 30])
@pytest.mark.parametrize("most", [6, 8, 16, 200])
def test_what_the_encoder_sees_depends_on_the_score(caption: str, most: int) -> None:
    slow, fast = (condition_text(caption, {"motion": value}) for value in (0.0, 20.0))
    fitted = fit_texts([slow, fast], encoder(most))
    (first, _), (second, _) = (encoder(most).encode([text]) for text in fitted)
    assert not torch.equal(first, second)
    assert all(count_too_long([text], encoder(most)) == 0 for text in fitted)
    assert caption.startswith(split_conditioning(fitted[0]).caption.rstrip("."))


def test_what_fits_and_what_has_no_scores_is_left_alone() -> None:
    short = condition_text("a dog", {"motion": 1.0})
    assert fit_texts([short, WORDS], encoder()) == [short, WORDS]
    assert count_too_long([short, WORDS], encoder(8)) == 1


def test_scores_that_do_not_fit_alone_lose_the_caption_only() -> None:
    text = condition_text("a dog", {"motion": 1.0, "quality": 0.5})
    assert fit_texts([text], encoder(4)) == ["motion score: 1.0. quality score: 0.5."]
