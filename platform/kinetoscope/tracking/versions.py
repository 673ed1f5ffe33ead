"""What is known of a model version, and how MLflow's tags hold it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from kinetoscope.core.config_model import Record
from kinetoscope.core.hashing import digest_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

_KEY_TAG = "kinetoscope.dev/bundle-key"
_DIGEST_TAG = "kinetoscope.dev/bundle-digest"
_CREATED_TAG = "kinetoscope.dev/created-at"
_FACTS = (_KEY_TAG, _DIGEST_TAG, _CREATED_TAG)
_SCORE_PREFIX = "score."


class NewVersion(Record):
    """What is entered in the registry as a version of a model."""

    name: str
    """Of the registered model."""
    bundle_key: str
    """Where the weights are, below the root of the object store: ``models/tiny/0123456789abcdef``.

    A key, no URI: it stays true when the store is moved or copied.
    """
    bundle_digest: str
    tags: dict[str, str] = {}
    """Lineage, e.g. ``kinetoscope.dev/run``."""
    scores: dict[str, float] = {}
    tracked_run: str | None = None
    """MLflow's id of the run that made it."""

    @property
    def identity(self) -> str:
        """16 hex digits that the same bundle of the same lineage has in every registry."""
        facts = [self.bundle_key, self.bundle_digest, self.tags]
        return digest_json(facts).removeprefix("sha256:")[:16]

    def is_version(self, version: ModelVersion) -> bool:
        """Tell whether a version is this one: of the same bundle and the same lineage."""
        return (
            self.name == version.name
            and self.bundle_key == version.bundle_key
            and self.bundle_digest == version.bundle_digest
            and self.tags.items() <= version.tags.items()
        )


class ModelVersion(Record):
    """A version of a registered model."""

    name: str
    version: str
    aliases: tuple[str, ...] = ()
    bundle_key: str
    """See :class:`NewVersion`; empty when the version names none."""
    bundle_digest: str
    source: str
    """Where the bundle was when it was registered, as a URI."""
    tags: dict[str, str] = {}
    scores: dict[str, float] = {}
    created_at: float = 0.0
    """Seconds since the epoch."""

    @property
    def ref(self) -> str:
        """The version as commands take it: ``tiny/3``."""
        return f"{self.name}/{self.version}"


class StoredVersion(NamedTuple):
    """A version as MLflow's database has it, by the names of MLflow's own class."""

    name: str
    version: int
    source: str
    creation_timestamp: int | None
    tags: dict[str, str]


def to_tags(new: NewVersion, created_at: float | None = None) -> dict[str, str]:
    """Return a version's tags in MLflow.

    Args:
        new: the version.
        created_at: when it was first registered, unless that is now.
    """
    return {
        **new.tags,
        _KEY_TAG: new.bundle_key,
        _DIGEST_TAG: new.bundle_digest,
        **({} if created_at is None else {_CREATED_TAG: repr(created_at)}),
        **{f"{_SCORE_PREFIX}{name}": repr(value) for name, value in new.scores.items()},
    }


def to_version(
    version: MlflowVersion | StoredVersion, aliases: Mapping[str, object]
) -> ModelVersion:
    """Return what MLflow tells of a version.

    Args:
        version: MLflow's answer, of which a search leaves the aliases empty, or its database's.
        aliases: those of the model, with the number of the version of each.
    """
    tags = {str(key): str(value) for key, value in version.tags.items()}
    mine = sorted(alias for alias, number in aliases.items() if str(number) == str(version.version))
    lineage = {k: v for k, v in tags.items() if k not in _FACTS and not k.startswith(_SCORE_PREFIX)}
    return ModelVersion(
        name=str(version.name),
        version=str(version.version),
        aliases=tuple(mine),
        bundle_key=tags.get(_KEY_TAG) or _key_in_source(str(version.name), str(version.source)),
        bundle_digest=tags.get(_DIGEST_TAG, ""),
        source=str(version.source),
        tags=lineage,
        scores={
            key.removeprefix(_SCORE_PREFIX): score
            for key, value in tags.items()
            if key.startswith(_SCORE_PREFIX) and (score := _number(value)) is not None
        },
        created_at=_number(tags.get(_CREATED_TAG)) or (version.creation_timestamp or 0) / 1000,
    )


def _number(text: str | None) -> float | None:
    """Return the number in a tag, or None: anybody may have written it."""
    try:
        return float(text or "")
    except ValueError:
        return None


def _key_in_source(name: str, source: str) -> str:
    """Return the key in the URI that alone told of it in earlier versions."""
    found = re.search(rf"/(models/{re.escape(quote(name))}/[0-9a-f]{{16}})$", source)
    return unquote(found[1]) if found else ""
