"""Which object of a name is meant: names are used again, and others change what we have seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Which:
    """The object that was seen: Kubernetes refuses what is asked of another one of its name.

    Args:
        uid: of the object; empty for any.
        version: its ``resourceVersion``, where nothing may have changed since; empty for any.
    """

    uid: str = ""
    version: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Self:
        """Return what tells an object as it is now."""
        return cls(metadata.get("uid", ""), metadata.get("resourceVersion", ""))

    def to_json(self) -> dict[str, str]:
        """Return it as the preconditions of a deletion, or as a part of a patch's metadata."""
        given = {"uid": self.uid, "resourceVersion": self.version}
        return {key: value for key, value in given.items() if value}


ANY = Which()
