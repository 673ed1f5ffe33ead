"""Kinds of models: each is a package that is found by its name, in every process.

    KIND/config.py    torch-free; ``MODEL_CONFIG`` is the config's class, whose ``kind`` is KIND
    KIND/model.py     ``MODEL`` is the model's class; it takes the config

Packages below ``kinetoscope.models`` are kinds by their folder's name. Another distribution adds
one with an entry point in the group ``kinetoscope.models``: the name is the kind, the value its
package.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

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
        ConfigError: there is no such kind.
    """
    if kind in _built_in_kinds():
        return f"{__package__}.{kind}"
    try:
        return _entry_points()[kind].value
    except KeyError:
        raise ConfigError(
            f"there is no kind of model {kind!r}; kinds are {', '.join(known_kinds())}",
            hint=f"install the distribution that has it (entry points in {GROUP!r})",
        ) from None


def config_class(kind: str) -> type[ModelConfig]:
    """Return the class of a kind's config.

    Raises:
        ConfigError: there is no such kind, or its package is not laid out as one.
    """
    found = attribute_of(kind, "config", "MODEL_CONFIG")
    if not (isinstance(found, type) and issubclass(found, ModelConfig)):
        raise ConfigError(f"MODEL_CONFIG of the kind {kind!r} is no config of a model: {found!r}")
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
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the kind {kind!r} can't be used: {package}.{module} gives no {name}: {error}",
            hint="docs/add-a-model.md says what a kind's package has",
        ) from error


def modules_of(config: ModelConfig) -> tuple[str, ...]:
    """Return the modules that a worker reaches by the kind's name alone, not by an import."""
    package = package_of(config.kind)
    loader = getattr(config, "pretrained_module", "")
    return f"{package}.config", f"{package}.model", *([loader] if loader else [])


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
        return core_schema.no_info_before_validator_function(self._resolved, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        kinds = [config_class(kind) for kind in known_kinds()]
        fitting = [kind for kind in kinds if issubclass(kind, self._base)]
        return {"anyOf": [handler(kind.__pydantic_core_schema__) for kind in fitting]}

    def _resolved(self, value: Any) -> Any:
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
        return found.model_validate(value)


@cache
def _built_in_kinds() -> frozenset[str]:
    return frozenset(path.parent.name for path in _BUILT_IN.glob("*/model.py"))


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
