"""Names of generated files."""

from __future__ import annotations

import re
import unicodedata

# Letters, the marks on them (the vowels of Indic scripts and of Thai are such), digits.
_OF_WORDS = frozenset("LMN")
# They join or part letters within a word.
_JOINERS = "\u200c\u200d"
_KEPT = frozenset("_.,=+-")
_OTHERS = re.compile("\0+")
_MOST_BYTES = 120
_DEFAULT = "sample"


def clip_name(
    index: int = 0, *, name: str | None = None, prompt: str | None = None, copy: int | None = None
) -> str:
    """Return a file name without suffix, e.g. ``sample_0003`` or ``a-cat-2``.

    Args:
        index: of the prompt; used where ``prompt`` is None.
        name: what the file name begins with, instead of ``sample``.
        prompt: names the file, made fit for any file system: letters and digits of any script stay,
            all else becomes a hyphen, at most 120 bytes.
        copy: number of the clip where a prompt has several; None without.
    """
    if prompt is None:
        stem = f"{_DEFAULT if name is None else name}_{index:04d}"
    else:
        stem = _file_safe(f"{name or ''}{prompt}")
    return stem if copy is None else f"{stem}-{copy}"


def _file_safe(text: str) -> str:
    normal = unicodedata.normalize("NFC", text)
    marked = "".join(c if c in _KEPT or is_of_word(c) else "\0" for c in normal)
    safe = _OTHERS.sub("-", marked).strip("-.")
    cut = safe.encode()[:_MOST_BYTES].decode(errors="ignore").rstrip("-.")
    return cut or _DEFAULT


def is_of_word(character: str) -> bool:
    """Tell whether a character is a part of a word, in any script."""
    return character in _JOINERS or unicodedata.category(character)[0] in _OF_WORDS
