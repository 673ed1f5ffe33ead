"""Read YAML, or refuse it with file, line and key. Nothing else in Kinetoscope reads YAML.

Refused is what would be lost, or read differently by others: keys given twice, tags, loops,
documents after the first, words that versions of YAML disagree about (`scalars`), and what is
too large or too deep for a config. Keys are text; a whole number as key stands for its digits.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any, NoReturn

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.yaml_text.composer import Composer
from kinetoscope.core.yaml_text.nodes import Node, plain

_MAX_BYTES = 1 << 20
"""Kubernetes' ConfigMaps are no larger, and our recipes have a fiftieth of it."""

# What YAML allows, but for characters that break lines where editors show none, and marks of byte
# order, which hide.
_NOT_ALLOWED = re.compile(
    r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_CHARACTERS = {
    "\0": "a NUL",
    "\ufeff": "a byte order mark",
}
_BREAK = re.compile(r"\r\n?|\n")


def read_yaml(path: Path, *, secret: bool = False) -> Node:
    """Read a file.

    Args:
        path: of it.
        secret: as of `parse_yaml`.

    Raises:
        ConfigError: it can't be read, or is refused: naming file, line and key.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path} is no file", hint="give the path of a YAML file")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}", hint="give a file that this user may read"
        ) from None
    return parse_yaml(data, str(path), secret=secret)


def parse_yaml(
    data: bytes | str, source: str, *, at: str = "", kubernetes: bool = False, secret: bool = False
) -> Node:
    """Return the value that a text holds; None where it holds nothing.

    Args:
        data: the text, as UTF-8 where it is bytes.
        source: where it is from, for errors.
        at: key that the text is the value of, for errors; such a text has no lines.
        kubernetes: whether it is an object of a cluster: there ``0440`` is a file mode to the
            base 8.
        secret: whether errors must not tell its values.

    Raises:
        ConfigError: naming source, line and key.
    """
    if len(data) > _MAX_BYTES:
        raise ConfigError(
            f"{source} has more than {_MAX_BYTES:,} bytes: too many for a config",
            hint="give a file that holds settings alone",
        )
    composer = Composer(source, at, kubernetes, secret)
    text = _decoded(data, composer) if isinstance(data, bytes) else data
    found = _NOT_ALLOWED.search(text)
    if found:
        _refuse_character(text, found.start(), composer)
    return composer.compose(text)


def parse_cluster_object(text: str, source: str) -> Any:
    """Return an object of a cluster, or what its ConfigMaps hold, as plain values.

    Raises:
        ConfigError: as of `parse_yaml`.
    """
    return plain(parse_yaml(text, source, kubernetes=True))


def _decoded(data: bytes, composer: Composer) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line, excerpt = _around(data.decode("latin-1"), error.start, composer)
        composer.refuse(
            f"no UTF-8: byte 0x{data[error.start]:02x}{excerpt}",
            line=line,
            hint="save the file as UTF-8",
        )


def _refuse_character(text: str, index: int, composer: Composer) -> NoReturn:
    line, excerpt = _around(text, index, composer)
    name = _CHARACTERS.get(text[index], f"the character U+{ord(text[index]):04X}")
    composer.refuse(
        f"{name} is not allowed{excerpt}",
        line=line,
        hint="remove it; save the file as UTF-8 without a byte order mark",
    )


def _around(text: str, index: int, composer: Composer) -> tuple[int, str]:
    """Return the number of the line that holds a character, and what stands around it."""
    starts = [0, *(found.end() for found in _BREAK.finditer(text, 0, index))]
    row = _BREAK.split(text[starts[-1] :], maxsplit=1)[0]
    return len(starts), composer.excerpt(row, index - starts[-1])
