"""The base of every persisted config and record."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from kinetoscope.core.errors import CorruptError
from kinetoscope.core.hashing import digest_bytes

RECORD_DIGEST = "record_digest"
"""Key of a stored record's digest, which is of all its other keys."""


class Config(BaseModel):
    """A frozen value with typed fields that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        value: dict[str, Any] = self.model_dump(mode="json")
        return value


class Effect(Enum):
    """Marks a field of a config whose value does not decide what a step makes, as others do."""

    NONE = "none"
    """It changes how the step runs: where, how fast, with how much memory."""
    FILES = "files"
    """It is the path of a file or folder of weights, whose content decides."""


def effect_of(config: Config, field: str) -> Effect | None:
    """Return how a field is marked, or None where its value decides."""
    marks = type(config).model_fields[field].metadata
    return next((mark for mark in marks if isinstance(mark, Effect)), None)


class Record(BaseModel):
    """A stored value that a later version may have extended: unknown keys are ignored.

    It carries a digest of itself, so that a reader tells damage from content.
    """

    # NaN and infinity are kept: pydantic would write null for them.
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")

    def to_bytes(self) -> bytes:
        """Return the record and its digest as indented JSON."""
        return signed_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Self:
        """Read a record back.

        Args:
            data: what `to_bytes` gave, perhaps in a later version.
            name: of the file or object that holds it, for errors.

        Raises:
            CorruptError: the record was changed since it was written, or is of another kind.
        """
        value = _verified(data, name)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            told = "; ".join(f"{_place(line)}: {line['msg']}" for line in error.errors()[:3])
            raise CorruptError(f"{name} is no {cls.__name__} of this version: {told}") from error


def signed_json(value: dict[str, Any]) -> bytes:
    """Return the bytes of a stored record: a value and the digest of it."""
    return json.dumps({**value, RECORD_DIGEST: _digest(value)}, indent=1).encode()


def _verified(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{name} is damaged: it is no JSON ({error})") from None
    if not isinstance(value, dict) or RECORD_DIGEST not in value:
        raise CorruptError(
            f"{name} has no digest of itself: it is damaged, or was written by an earlier version",
            hint="what an earlier version wrote, only that version reads; start in a new "
            "KINO_WORKSPACE, and take models along with kino models export and import",
        )
    told = value.pop(RECORD_DIGEST)
    if told != _digest(value):
        raise CorruptError(f"{name} is damaged: it does not match its digest")
    return value


def _digest(value: dict[str, Any]) -> str:
    # NaN is allowed here, unlike in identities: a metric may be one.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return digest_bytes(text.encode())


def _place(line: Any) -> str:
    return ".".join(map(str, line["loc"])) or "value"
