"""Model versions in MLflow's registry: registering, naming, promoting.

A version's weights live in the object store as a bundle; the registry holds its URI, its lineage
and scores as tags, and the aliases ``candidate`` (the newest) and ``champion`` (the best).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from kinetoscope.core.config_model import Record
from kinetoscope.core.errors import NotFoundError, UserError
from kinetoscope.tracking.database import call, connect, exclusive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.entities.model_registry import RegisteredModel

CANDIDATE = "candidate"
CHAMPION = "champion"

_SCORE_PREFIX = "score."
_PAGE = 100


class ModelVersion(Record):
    """A version of a registered model."""

    name: str
    version: str
    aliases: tuple[str, ...] = ()
    bundle_uri: str
    tags: dict[str, str] = {}
    """Lineage, e.g. ``kinetoscope.dev/bundle-digest``."""
    scores: dict[str, float] = {}
    created_at: float = 0.0
    """Seconds since the epoch."""


class ModelRegistry:
    """The registry of one MLflow store."""

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        self._client = connect(tracking_uri)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other processes of this machine from changing the registry (not reentrant)."""
        return exclusive(self._uri)

    def register_version(
        self,
        name: str,
        *,
        bundle_uri: str,
        tags: Mapping[str, str],
        scores: Mapping[str, float],
        tracked_run: str | None = None,
    ) -> ModelVersion:
        """Add a version and give it the alias ``candidate``.

        A version with the same URI and the same tags is found again instead of made twice.

        Args:
            name: of the registered model, created on first use.
            bundle_uri: where the weights are.
            tags: lineage.
            scores: flat metrics.
            tracked_run: MLflow id of the run that made it.
        """
        self._create_model(name)
        found = self._find(name, bundle_uri, tags)
        if found is None:
            score_tags = {f"{_SCORE_PREFIX}{key}": repr(value) for key, value in scores.items()}
            created: MlflowVersion = call(
                self._client.create_model_version,
                name,
                source=bundle_uri,
                run_id=tracked_run,
                tags={**tags, **score_tags},
            )
            found = str(created.version)
        self.set_alias(name, CANDIDATE, found)
        return self.get_version(f"{name}/{found}")

    def promote(self, ref: str) -> ModelVersion:
        """Make a version the champion; see :meth:`get_version` for ``ref``."""
        version = self.get_version(ref, default_alias=CANDIDATE)
        self.set_alias(version.name, CHAMPION, version.version)
        return self.get_version(f"{version.name}/{version.version}")

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version."""
        call(self._client.set_registered_model_alias, name, alias, version)

    def champion(self, name: str) -> ModelVersion | None:
        """Return the champion, or None while there is none."""
        model = self._model(name)
        if model is None or CHAMPION not in model.aliases:
            return None
        return self.get_version(f"{name}@{CHAMPION}")

    def get_version(self, ref: str, *, default_alias: str = CHAMPION) -> ModelVersion:
        """Return a version by reference.

        Args:
            ref: ``name/3``, ``name@alias`` or ``name``.
            default_alias: what a bare name means; the newest version when the alias is not set.

        Raises:
            NotFoundError: no such model, version or alias.
            UserError: the reference has none of these forms.
        """
        name, alias, number = _parse(ref)
        model = self._model(name)
        if model is None:
            raise NotFoundError(f"no model named {name!r}", hint="`kino models ls` lists them")
        versions = self._versions(model)
        if not versions:
            raise NotFoundError(f"model {name!r} has no versions yet")
        if not number:
            aliases = {a: version for version in versions for a in version.aliases}
            if not alias:
                return aliases.get(default_alias, versions[-1])
            if alias in aliases:
                return aliases[alias]
            raise NotFoundError(
                f"model {name!r} has no alias {alias!r}", hint=f"it has {sorted(aliases)}"
            )
        for version in versions:
            if version.version == number:
                return version
        raise NotFoundError(
            f"model {name!r} has no version {number}",
            hint=f"it has {', '.join(version.version for version in versions)}",
        )

    def list_models(self) -> list[ModelVersion]:
        """Return all versions of all models, by name, oldest first."""
        models: list[RegisteredModel] = []
        token: str | None = None
        while True:
            page = call(self._client.search_registered_models, max_results=_PAGE, page_token=token)
            models.extend(page)
            token = page.token
            if not token:
                break
        models.sort(key=lambda model: str(model.name))
        return [version for model in models for version in self._versions(model)]

    def _model(self, name: str) -> RegisteredModel | None:
        from mlflow.exceptions import MlflowException

        try:
            return call(self._client.get_registered_model, name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _create_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            call(self._client.create_registered_model, name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _find(self, name: str, bundle_uri: str, tags: Mapping[str, str]) -> str | None:
        model = self._model(name)
        for version in self._versions(model) if model else []:
            if version.bundle_uri == bundle_uri and tags.items() <= version.tags.items():
                return version.version
        return None

    def _versions(self, model: RegisteredModel) -> list[ModelVersion]:
        found: list[MlflowVersion] = []
        token: str | None = None
        while True:
            page = call(
                self._client.search_model_versions,
                f"name = '{model.name}'",
                max_results=_PAGE,
                page_token=token,
            )
            found.extend(page)
            token = page.token
            if not token:
                break
        versions = [_to_version(version, model.aliases) for version in found]
        return sorted(versions, key=lambda version: int(version.version))


def _to_version(version: MlflowVersion, aliases: Mapping[str, object]) -> ModelVersion:
    tags = {str(key): str(value) for key, value in version.tags.items()}
    # A search leaves a version's own aliases empty; the model's list is complete.
    mine = sorted(alias for alias, number in aliases.items() if str(number) == str(version.version))
    return ModelVersion(
        name=str(version.name),
        version=str(version.version),
        aliases=tuple(mine),
        bundle_uri=str(version.source),
        tags={key: value for key, value in tags.items() if not key.startswith(_SCORE_PREFIX)},
        scores={
            key.removeprefix(_SCORE_PREFIX): float(value)
            for key, value in tags.items()
            if key.startswith(_SCORE_PREFIX)
        },
        created_at=(version.creation_timestamp or 0) / 1000,
    )


def _parse(ref: str) -> tuple[str, str, str]:
    """Return name, alias and version number; the latter two are empty when not given."""
    name, slash, number = ref.partition("/")
    if slash:
        if name and number.isdigit():
            return name, "", number
    else:
        name, at, alias = ref.partition("@")
        if name and bool(at) == bool(alias):
            return name, alias, ""
    raise UserError(f"{ref!r} names no model version", hint="use NAME, NAME@ALIAS or NAME/VERSION")
