"""Which version a reference names: ``name/3``, ``name@alias`` or ``name``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kinetoscope.core.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinetoscope.tracking.versions import ModelVersion

CANDIDATE = "candidate"
CHAMPION = "champion"


class KnownVersions(Protocol):
    """What can be asked of a registry without changing it."""

    def list_models(self) -> list[ModelVersion]:
        """Return all versions of all models, by name, oldest first."""
        ...

    def get_version(self, ref: str, *, default_alias: str = CHAMPION) -> ModelVersion:
        """Return a version by reference; see :func:`choose` for what is raised.

        Args:
            ref: ``name/3``, ``name@alias`` or ``name``.
            default_alias: what a bare name means; the newest version when the alias is not set.
        """
        ...


def parse_ref(ref: str) -> tuple[str, str, str]:
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


def check_name(name: str) -> None:
    """Raise ``UserError`` for a name that no model can have: MLflow, or a reference, has no way."""
    if not name.strip() or any(sign in name for sign in "/:@"):
        raise UserError(f"{name!r} names no model", hint="use letters, digits, '.', '_' and '-'")


def choose(versions: Sequence[ModelVersion] | None, ref: str, default_alias: str) -> ModelVersion:
    """Return the version of a model that a reference names.

    Args:
        versions: all of the model's, oldest first; None where there is no such model.
        ref: see :class:`KnownVersions`, as is ``default_alias``.
        default_alias: what a bare name means.

    Raises:
        NotFoundError: no such model, version or alias.
        UserError: the reference has none of the forms.
    """
    name, alias, number = parse_ref(ref)
    if versions is None:
        raise NotFoundError(f"no model named {name!r}", hint="`kino models ls` lists them")
    if not versions:
        raise NotFoundError(f"model {name!r} has no versions yet")
    if number:
        return _numbered(versions, name, number)
    aliases = {alias: version for version in versions for alias in version.aliases}
    if not alias:
        return aliases.get(default_alias, versions[-1])
    if alias in aliases:
        return aliases[alias]
    raise NotFoundError(f"model {name!r} has no alias {alias!r}", hint=f"it has {sorted(aliases)}")


def _numbered(versions: Sequence[ModelVersion], name: str, number: str) -> ModelVersion:
    for version in versions:
        if version.version == number:
            return version
    raise NotFoundError(
        f"model {name!r} has no version {number}",
        hint=f"it has {', '.join(version.version for version in versions)}",
    )
