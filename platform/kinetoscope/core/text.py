"""Text of others made fit to be shown: names of files, captions, models, what a server said."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# Joiners that shape a word of a script, or an emoji; beside ASCII they only hide.
_SHAPING = re.compile(r"(?<=[^\x00-\x7f])[\u200c\u200d](?=[^\x00-\x7f])")
_SHOWN_CHARS = 60
# Letters that show nothing.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0")


def printable(text: str) -> str:
    r"""Return the text as one line that nothing obeys: what a terminal would is shown as an escape.

    Control characters, line breaks, bidi controls, invisible characters and bytes that were no
    UTF-8 become e.g. ``\x1b``, ``\n``, ``\u202e`` or ``\udcff``; all other text stays, of whatever
    script. What was made printable is not changed again.
    """
    if text.isprintable() and _BLANK.isdisjoint(text):
        return text
    shaping = {found.start() for found in _SHAPING.finditer(text)}
    return "".join(
        char if index in shaping or _is_shown(char) else char.encode("unicode_escape").decode()
        for index, char in enumerate(text)
    )


def printable_lines(text: str) -> str:
    """Return `printable` text that keeps its lines and tabs, for logs and pages."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in lines)


def shortened(text: str, chars: int = _SHOWN_CHARS) -> str:
    """Return the beginning of a text, fit to be shown."""
    return printable(text if len(text) <= chars else text[:chars] + "...")


def printable_value(value: Any) -> Any:
    """Return a value as a page shows it: text as `printable_lines`, markup of ours as it is."""
    is_foreign = isinstance(value, str) and not hasattr(value, "__html__")
    return printable_lines(value) if is_foreign else value


def _is_shown(char: str) -> bool:
    # Spaces of other widths are no harm, though Python calls them unprintable.
    shown = char.isprintable() or unicodedata.category(char) == "Zs"
    return shown and char not in _BLANK
