"""Captions as Open-Sora 1.2 cleans them: without Chinese, whatever the script, of any length."""

from __future__ import annotations

import re

from bs4.exceptions import ParserRejectedMarkup

from kinetoscope.core.errors import DataError
from kinetoscope.data.text.cleaning import (
    Alphabet,
    text_of_html,
    without_links,
    without_nicknames,
    without_noise,
)

_CJK = re.compile("[\u31c0-\u4dff\u4e00-\u9fff]+")
# Links, file names and nicknames reach to the next space, in scripts without spaces too.
_ANY_SCRIPT = Alphabet(r"\w", r"\S", r"\b")


def reference_clean_caption(text: str, *, passes: int = 2) -> str:
    """Return a caption cleaned as the reference does it.

    Args:
        text: the raw caption or prompt.
        passes: how often the rules are applied; the reference does it twice.

    Raises:
        DataError: markup or half characters (lone surrogates) that the HTML parser refuses; ours
            cuts out the tags by a plain pattern then.
    """
    for _ in range(passes):
        text = _without_tags(without_links(text, _ANY_SCRIPT))
        text = _CJK.sub("", without_nicknames(text, _ANY_SCRIPT))
        text = without_noise(text, _ANY_SCRIPT)
    return text


def reference_lower_caption(text: str) -> str:
    """Return a caption in lower case without outer spaces: the reference without cleaning."""
    return text.lower().strip()


def _without_tags(text: str) -> str:
    try:
        return text_of_html(text)
    except (ParserRejectedMarkup, UnicodeEncodeError) as error:
        raise DataError(f"the caption can't be parsed as HTML: {text[:80]!r}") from error
