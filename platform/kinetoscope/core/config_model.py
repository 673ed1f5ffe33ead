"""The base of every persisted config and record."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen value with typed fields that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        value: dict[str, Any] = self.model_dump(mode="json")
        return value


class Record(BaseModel):
    """A stored value that a later version may have extended: unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_bytes(self) -> bytes:
        """Return the record as indented JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a record back."""
        return cls.model_validate_json(data)
