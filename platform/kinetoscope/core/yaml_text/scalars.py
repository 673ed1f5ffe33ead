"""What a word of YAML is: the few forms that nobody reads differently, and refusal of the others.

Numbers, booleans and null are those of YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema),
so that ``1e-3`` is a number. What YAML 1.1 read as something else than it looks like (``no``,
``012``, ``1:30``, ``1_000``, dates) is refused, since readers of either version would differ.
"""

from __future__ import annotations

import math
import re

Scalar = None | bool | int | float | str

MAX_INTEGER = 2**63 - 1
"""Whole numbers are at most this, above and below 0: what numpy and torch take."""

_WORDS: dict[str, Scalar] = {
    form: value
    for word, value in (("", None), ("~", None), ("null", None), ("true", True), ("false", False))
    for form in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_OCTAL = re.compile(r"0[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
# Any plain word that could be one of these starts so; all other text is told apart by that alone.
_SUSPECT = re.compile(r"[-+.0-9]|[yYnNoO]\w{1,2}\Z")
_QUOTE = "put it in quotes if it is text"
_ODD = (
    (
        re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"),
        "is true or false in some versions of YAML and text in others",
        f"write true or false; {_QUOTE}",
    ),
    (
        re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"),
        "is no finite number",
        "write a number; where null is allowed, it means no limit",
    ),
    (
        re.compile(r"[-+]?0(?:[0-9_]+|[oO][0-7_]+|[xX][0-9a-fA-F_]+|[bB][01_]+)"),
        "is a number of another base than 10 in some versions of YAML",
        f"write it in decimal digits, without a 0 in front; {_QUOTE}",
    ),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"),
        "is a number to the base 60 in some versions of YAML and text in others",
        f"write a plain number; {_QUOTE}",
    ),
    (
        re.compile(r"[-+]?(?=[0-9.]*_)[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?"),
        "is a number in some versions of YAML and text in others",
        f"write a number without '_'; {_QUOTE}",
    ),
    (
        re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?"),
        "is a date in some versions of YAML and text in others",
        _QUOTE,
    ),
)


class OddScalarError(ValueError):
    """A word that is refused.

    Args:
        told: what is wrong with it.
        hint: what to write.
    """

    def __init__(self, told: str, hint: str) -> None:
        super().__init__(told)
        self.told = told
        self.hint = hint


def plain_scalar(text: str, *, octal: bool = False) -> Scalar:
    """Return what a word without quotes means.

    Args:
        text: the word.
        octal: whether ``0440`` is a number to the base 8, as file modes in Kubernetes' objects are.

    Raises:
        OddScalarError: readers differ about it, or it is a number that nothing takes.
    """
    if text in _WORDS:
        return _WORDS[text]
    if not _SUSPECT.match(text):
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _float(text)
    if octal and _OCTAL.fullmatch(text):
        return int(text, 8)
    for form, told, hint in _ODD:
        if form.fullmatch(text):
            raise OddScalarError(told, hint)
    return text


def _integer(text: str) -> int:
    # Python itself refuses to read thousands of digits.
    value = int(text) if len(text) <= len(str(MAX_INTEGER)) + 1 else MAX_INTEGER + 1
    if abs(value) > MAX_INTEGER:
        raise OddScalarError(
            f"is too large: whole numbers lie between -{MAX_INTEGER} and {MAX_INTEGER} (2**63 - 1)",
            f"write a smaller one, or e.g. 1e23 where a fraction is allowed; {_QUOTE}",
        )
    return value


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise OddScalarError("is too large for a number", "write one below 1e308")
    digits = re.split("[eE]", text)[0]
    if value == 0 and set(digits) & set("123456789"):
        raise OddScalarError(
            "is too small for a number other than 0", "write 0, or one above 1e-300"
        )
    return value
