"""Read a RunConfig: a recipe, what it extends, overrides, and where each value is from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetoscope.config.problems import refuse_problems, validated
from kinetoscope.config.run import RunConfig
from kinetoscope.config.trained_sizes import sizes_off_training
from kinetoscope.config.tree import from_plain, leaves, merged, with_value
from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.core.text import shortened
from kinetoscope.core.yaml_text.nodes import Node, shown
from kinetoscope.core.yaml_text.read import parse_yaml, read_yaml
from kinetoscope.models.choice import DEFAULT_TRANSFORMER, DEFAULT_VIDEO_AUTOENCODER

_RECIPES = Path(__file__).parent / "recipes"
_DEFAULT_KINDS = {"vae": DEFAULT_VIDEO_AUTOENCODER, "dit": DEFAULT_TRANSFORMER}
_OVERRIDE = "--set"
_SUFFIXES = (".yaml", ".yml")
_MAX_CHAIN = 20
_MAX_KEYS = 20


@dataclass(frozen=True)
class LoadedConfig:
    """A resolved config.

    Args:
        config: the validated value.
        tree: what was given, each value with where it stands; what is not in it has its default.
        source: the recipe, for errors.
    """

    config: RunConfig
    tree: Node
    source: str

    @property
    def origins(self) -> dict[str, str]:
        """Where each leaf was set, by dotted path; a leaf that is not in it has its default."""
        known = {path for path, _ in leaves(self.config.to_json())}
        given = {path: node.source for path, node in leaves(self.tree) if node.source}
        return {path: _origin(source) for path, source in given.items() if path in known}

    def rows(self) -> list[tuple[str, Any, str]]:
        """Return (dotted path, value, origin) of every leaf."""
        origins = self.origins
        given = leaves(self.config.to_json())
        return [(path, value, origins.get(path, "default")) for path, value in given]


def list_recipes() -> list[str]:
    """Return the names of the packaged recipes."""
    return sorted(path.stem for path in _RECIPES.glob("*.yaml"))


def recipe_summary(name: str) -> str:
    """Return the first comment line of a recipe."""
    first = (_RECIPES / f"{name}.yaml").read_text().splitlines()[0]
    return first.removeprefix("#").strip()


def load_config(recipe: str, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Resolve a recipe.

    Args:
        recipe: name of a packaged recipe, or path of a YAML file.
        overrides: ``a.b=value`` with a YAML value; whole numbers index lists.

    Raises:
        ConfigError: naming file, line and key, the value and what is allowed.
        NotFoundError: when there is no such recipe.
    """
    tree = _read(_find(recipe, Path()), seen=())
    for override in overrides:
        tree = _overridden(tree, override)
    source = f"recipe {recipe!r}"
    config = validated(tree, source)
    refuse_problems(source, tree, list(sizes_off_training(config)))
    return LoadedConfig(config, tree, source)


def read_resolved(data: bytes, source: str) -> RunConfig:
    """Read a resolved config that was stored as JSON.

    Args:
        data: its bytes.
        source: what it is, for an error.

    Raises:
        ConfigError: this version of Kinetoscope, or the kinds of models that are installed here,
            have no such config.
    """
    return validated(from_plain(json.loads(data), ""), source)


def _find(recipe: str, folder: Path) -> Path:
    packaged = _RECIPES / f"{recipe}.yaml"
    if recipe in list_recipes():
        return packaged
    path = folder / recipe
    if path.suffix in _SUFFIXES and _exists(path):
        return path
    raise NotFoundError(
        f"there is no recipe {shortened(recipe)!r}",
        hint=f"recipes are {', '.join(list_recipes())}; or give the path of a .yaml file",
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have, or a folder that is closed to us
        return False


def _read(path: Path, seen: tuple[Path, ...]) -> Node:
    """Read a recipe and what it extends."""
    tree = read_yaml(path)
    if not isinstance(tree.value, dict):
        held = "nothing" if tree.value is None else type(tree.value).__name__
        raise ConfigError(f"{path} holds {held}: a mapping of config keys is needed")
    own = {key: node for key, node in tree.value.items() if key != "extends"}
    parent = tree.value.get("extends")
    tree = tree._replace(value=own)
    if parent is not None:
        tree = merged(_read(_parent(path, parent, seen), (*seen, path.resolve())), tree)
    return _with_kinds(tree)


def _parent(path: Path, named: Node, seen: tuple[Path, ...]) -> Path:
    """Return the file of the recipe that another one extends."""
    where = f"{named.place}: extends"
    if not isinstance(named.value, str):
        raise ConfigError(
            f"{where}: must be one recipe, by name or path (given: {shown(named.value)})",
            hint="put it in quotes if it is a number",
        )
    try:
        parent = _find(named.value, path.parent)
    except NotFoundError as error:
        raise NotFoundError(f"{where}: {error.message}", hint=error.hint) from None
    chain = (*seen, path.resolve())
    if parent.resolve() in chain:
        raise ConfigError(
            f"{where}: recipes extend each other in a circle: {[p.name for p in chain]}"
        )
    if len(chain) >= _MAX_CHAIN:
        raise ConfigError(f"{where}: recipes extend each other more than {_MAX_CHAIN} deep")
    return parent


def _with_kinds(tree: Node) -> Node:
    """Write out the kinds that models have by default: a recipe may name them to extend them."""
    models = tree.value.get("models")
    for name, kind in _DEFAULT_KINDS.items():
        model = models.value.get(name) if models and isinstance(models.value, dict) else None
        if model and isinstance(model.value, dict) and "kind" not in model.value:
            tree = with_value(tree, ("models", name, "kind"), Node(kind, "", 0))
    return tree


def _overridden(tree: Node, override: str) -> Node:
    path, equals, text = override.partition("=")
    keys = tuple(path.split("."))
    # Bytes that are no text, as a shell of another encoding gives them, are not printable.
    is_path = all(key and key.isprintable() for key in keys) and len(keys) <= _MAX_KEYS
    if not equals or not is_path:
        raise ConfigError(
            f"override {shortened(override)!r} is not of the form a.b=value",
            hint="for example --set seed=7 or --set train_dit.0.loop.num_steps=100",
        )
    return with_value(tree, keys, parse_yaml(text, _OVERRIDE, at=path))


def _origin(source: str) -> str:
    return source if source == _OVERRIDE else Path(source).stem
