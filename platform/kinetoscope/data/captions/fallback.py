"""What stands in for the caption of a video that has none."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from kinetoscope.data.captions.rows import Caption
from kinetoscope.data.text.cleaning import clean_caption
from kinetoscope.data.text.file_names import is_of_word

if TYPE_CHECKING:
    from kinetoscope.data.captions.found import Captions
    from kinetoscope.data.config import CaptionsConfig


def caption_for(name: str, captions: Captions, config: CaptionsConfig) -> Caption | None:
    """Return a video's caption; None when it has none and is to be dropped."""
    found = captions.by_video.get(name)
    if found is not None:
        text = clean_caption(found.text) if config.clean else found.text
        if text:
            return Caption(text, found.origin)
    if config.missing == "filename":
        words = _words_of_name(name)
        return Caption(clean_caption(words) if config.clean else words, "file name")
    return Caption("", "none") if config.missing == "empty" else None


def _words_of_name(name: str) -> str:
    """Return the words of a file's name, of any script, with spaces between them."""
    stem = posixpath.splitext(posixpath.basename(name))[0]
    letters = (c if is_of_word(c) else " " for c in stem)
    return " ".join("".join(letters).split())
