"""Kinds of models: each is a package that is found by its name, in every process.

    KIND/config.py    torch-free; ``MODEL_CONFIG`` is the config's class, whose ``kind`` is KIND
    KIND/model.py     ``MODEL`` is the model's class; it takes the config

Packages below ``kinetoscope.models`` are kinds by their folder's name. Another distribution adds
one with an entry point in the group ``kinetoscope.models``: the name is the kind, the value its
package.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import ErrorDetails, core_schema

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.config import ModelConfig

GROUP = "kinetoscope.models"
_BUILT_IN = Path(__file__).parent


def known_kinds() -> list[str]:
    """Return the names of all kinds."""
    return sorted({*_built_in_kinds(), *_entry_points()})


def package_of(kind: str) -> str:
    """Return the dotted name of a kind's package.

    Raises:
        ConfigError: there is no such kind, or more than one.
    """
    built_in = {f"{__package__}.{kind}"} if kind in _built_in_kinds() else set()
    packages = sorted(built_in | _entry_points().get(kind, set()))
    if not packages:
        raise ConfigError(
            f"there is no kind of model {kind!r}; kinds are {', '.join(known_kinds())}",
            hint=f"install the distribution that has it (entry points in {GROUP!r})",
        )
    if len(packages) > 1:
        raise ConfigError(
            f"the kind of model {kind!r} is {' and '.join(packages)}: which one, nothing says",
            hint="uninstall all but one of the distributions that have it",
        )
    return packages[0]


def config_class(kind: str) -> type[ModelConfig]:
    """Return the class of a kind's config.

    Raises:
        ConfigError: there is no such kind, or its package is not laid out as one.
    """
    found = attribute_of(kind, "config", "MODEL_CONFIG")
    if not (isinstance(found, type) and issubclass(found, ModelConfig)):
        raise ConfigError(f"MODEL_CONFIG of the kind {kind!r} is no config of a model: {found!r}")
    named = found.model_fields["kind"].default
    if named != kind:
        raise ConfigError(
            f"the kind {kind!r} can't be used: {found.__module__}.{found.__name__}.kind is "
            f"{named!r}",
            hint=f"the entry point in {GROUP!r} and the config must give it one name",
        )
    return found


def attribute_of(kind: str, module: str, name: str) -> Any:
    """Return what a module of a kind's package calls so.

    Args:
        kind: its name.
        module: ``config`` or ``model``.
        name: in the module.

    Raises:
        ConfigError: there is no such kind, or its package is not laid out as one.
    """
    package = package_of(kind)
    try:
        return getattr(import_module(f"{package}.{module}"), name)
    except Exception as error:  # its package is not ours: importing it may fail in any way
        raise ConfigError(
            f"the kind {kind!r} can't be used: {package}.{module} gives no {name}: {error!r}",
            hint="docs/add-a-model.md says what a kind's package has",
        ) from error


def modules_of(config: ModelConfig) -> tuple[str, ...]:
    """Return the modules that a worker reaches by the kind's name alone, not by an import."""
    package = package_of(config.kind)
    loader = getattr(config, "pretrained_module", "")
    return f"{package}.config", f"{package}.model", *([loader] if loader else [])


def unusable_kind(errors: Iterable[ErrorDetails]) -> ConfigError | None:
    """Return why a kind that a value names can't be used here, where that is what is wrong."""
    for item in errors:
        cause = getattr(item.get("ctx", {}).get("error"), "__cause__", None)
        if isinstance(cause, ConfigError):
            return cause
    return None


class OfKind:
    """Marks a config's field that holds a model's config of any kind.

    A mapping is validated as the config of its ``kind``.

    Args:
        base: what the kind must be a config of.
        default: the kind where the mapping names none.
    """

    def __init__(self, base: type[ModelConfig], default: str) -> None:
        self._base = base
        self._default = default

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.with_info_before_validator_function(self._resolved, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        fitting = [kind for kind in _usable_kinds() if issubclass(kind, self._base)]
        return {"anyOf": [handler(kind.__pydantic_core_schema__) for kind in fitting]}

    def _resolved(self, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, Mapping):
            return value
        kind = value.get("kind", self._default)
        try:
            found = config_class(str(kind))
        except ConfigError as error:
            raise ValueError(error.message) from error
        if not issubclass(found, self._base):
            raise ValueError(
                f"the kind {kind!r} is no {self._base.__name__.removesuffix('Config')}"
            )
        if info.mode == "json":  # a recipe or a stored config: types are strict there
            return found.model_validate_json(json.dumps(value), strict=True)
        return found.model_validate(value)


@cache
def _built_in_kinds() -> frozenset[str]:
    return frozenset(path.parent.name for path in _BUILT_IN.glob("*/model.py"))


def _usable_kinds() -> Iterator[type[ModelConfig]]:
    """Yield the configs of all kinds but the broken ones: these say so when they are asked for."""
    for kind in known_kinds():
        with suppress(ConfigError):
            yield config_class(kind)


@cache
def _entry_points() -> dict[str, set[str]]:
    """Return the packages that claim each kind."""
    packages: dict[str, set[str]] = {}
    for point in entry_points(group=GROUP):
        packages.setdefault(point.name, set()).add(point.value)
    return packages
