"""Model versions in MLflow's registry: registering, naming, promoting.

A version's weights live in the object store as a bundle; the registry holds its key and digest, its
lineage and scores as tags, and the aliases ``candidate`` (the newest) and ``champion`` (the best).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.store import ObjectStore
from kinetoscope.tracking.database import call, connect, exclusive
from kinetoscope.tracking.mirrored_aliases import mirror_aliases
from kinetoscope.tracking.references import CANDIDATE, CHAMPION, choose, parse_ref
from kinetoscope.tracking.version_records import VersionRecord, write_record
from kinetoscope.tracking.versions import ModelVersion, NewVersion, to_tags, to_version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.entities.model_registry import RegisteredModel

# Of a model: one for each version that it ever had, since MLflow tells nothing of deleted ones.
_HAD_TAG = "kinetoscope.dev/had."
_PAGE = 100


class ModelRegistry:
    """The registry of one MLflow store."""

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        self._client = connect(tracking_uri)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other processes of this machine from changing the registry (not reentrant)."""
        return exclusive(self._uri)

    def register_version(self, new: NewVersion, store: ObjectStore) -> ModelVersion:
        """Add a version, give it the alias ``candidate``, and record it beside its weights.

        A version of the same bundle and the same tags is found again instead of made twice, and
        what an attempt that was cut short has left out is added.

        Args:
            new: what is registered; its model is created on first use.
            store: the root of the object store that holds the bundle.
        """
        found = self.find(new) or self._create(new, store, to_tags(new))
        self.set_alias(new.name, CANDIDATE, found.version)
        self._remember(new, found)
        version = self.get_version(found.ref)
        write_record(store, new, version)
        self.mirror(new.name, store)
        return version

    def restore_version(self, record: VersionRecord, store: ObjectStore) -> ModelVersion:
        """Make a version again from its record, without an alias.

        MLflow counts by itself, deleted versions included: until it comes to the recorded number,
        what it made is deleted again. Where it is past that number, the version gets another.
        """
        run = record.tracked_run if self._has_run(record.tracked_run) else None
        new = record.model_copy(update={"tracked_run": run})
        tags = to_tags(new, record.created_at)
        made = self._create(new, store, tags)
        while int(made.version) < record.version:
            call(self._client.delete_model_version, made.name, made.version)
            made = self._create(new, store, tags)
        self._remember(record, made)
        return made

    def promote(self, ref: str, store: ObjectStore) -> ModelVersion:
        """Make a version the champion.

        Args:
            ref: see :meth:`get_version`; a bare name is its candidate.
            store: the root of the object store, which gets a copy of the aliases.
        """
        version = self.get_version(ref, default_alias=CANDIDATE)
        self.set_alias(version.name, CHAMPION, version.version)
        self.mirror(version.name, store)
        return self.get_version(version.ref)

    def mirror(self, name: str, store: ObjectStore) -> None:
        """Copy a model's aliases and numbers into the object store, for those who only read."""
        mirror_aliases(store, name, lambda: self.versions(name))

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version."""
        call(self._client.set_registered_model_alias, name, alias, version)

    def champion(self, name: str) -> ModelVersion | None:
        """Return the champion, or None while there is none."""
        for version in self.versions(name):
            if CHAMPION in version.aliases:
                return version
        return None

    def find(self, new: NewVersion) -> ModelVersion | None:
        """Return the version of the same bundle and the same tags, or None."""
        for version in self.versions(new.name):
            if new.is_version(version):
                return version
        return None

    def get_version(self, ref: str, *, default_alias: str = CHAMPION) -> ModelVersion:
        """Return a version by reference; see ``KnownVersions``."""
        model = self._model(parse_ref(ref)[0])
        return choose(None if model is None else self._versions(model), ref, default_alias)

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

    def versions(self, name: str) -> list[ModelVersion]:
        """Return a model's versions, oldest first; none when there is no such model."""
        model = self._model(name)
        return self._versions(model) if model else []

    def ever_had(self, name: str) -> set[str]:
        """Return the identities of all versions of a model, those that were deleted included."""
        model = self._model(name)
        tags = model.tags if model else {}
        return {str(key).removeprefix(_HAD_TAG) for key in tags if str(key).startswith(_HAD_TAG)}

    def _create(self, new: NewVersion, store: ObjectStore, tags: dict[str, str]) -> ModelVersion:
        self._create_model(new.name)
        created: MlflowVersion = call(
            self._client.create_model_version,
            new.name,
            source=join_uri(store.uri, new.bundle_key),
            run_id=new.tracked_run,
            tags=tags,
        )
        return to_version(created, {})

    def _remember(self, new: NewVersion, version: ModelVersion) -> None:
        tag = f"{_HAD_TAG}{new.identity}"
        call(self._client.set_registered_model_tag, new.name, tag, version.version)

    def _has_run(self, tracked_run: str | None) -> bool:
        from mlflow.exceptions import MlflowException

        if tracked_run is None:
            return False
        try:
            call(self._client.get_run, tracked_run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

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
        versions = [to_version(version, model.aliases) for version in found]
        return sorted(versions, key=lambda version: int(version.version))
