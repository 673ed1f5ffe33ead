"""Read a RunConfig: a recipe, what it extends, overrides, and where each value is from."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kinetoscope.config.problems import validated
from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.models.choice import DEFAULT_TRANSFORMER, DEFAULT_VIDEO_AUTOENCODER

_RECIPES = Path(__file__).parent / "recipes"
_DEFAULT_KINDS = {"vae": DEFAULT_VIDEO_AUTOENCODER, "dit": DEFAULT_TRANSFORMER}


@dataclass(frozen=True)
class LoadedConfig:
    """A resolved config.

    Args:
        config: the validated value.
        origins: where each leaf was set, by dotted path; a leaf that is not in it has its default.
    """

    config: RunConfig
    origins: dict[str, str]

    def rows(self) -> list[tuple[str, Any, str]]:
        """Return (dotted path, value, origin) of every leaf."""
        leaves = _leaves(self.config.to_json())
        return [(path, value, self.origins.get(path, "default")) for path, value in leaves]


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
        ConfigError: naming the key, the value and what is allowed.
        NotFoundError: when there is no such recipe.
    """
    tree, origins = _read(_find(recipe, beside=None), seen=())
    for override in overrides:
        _apply(tree, origins, override)
    config = validated(tree, f"recipe {recipe!r}")
    # What another value replaced whole has no origin any more.
    paths = {path for path, _ in _leaves(config.to_json())} & {path for path, _ in _leaves(tree)}
    return LoadedConfig(config, {k: v for k, v in origins.items() if k in paths})


def read_resolved(data: bytes, source: str) -> RunConfig:
    """Read a resolved config that was stored as JSON.

    Args:
        data: its bytes.
        source: what it is, for an error.

    Raises:
        ConfigError: this version of Kinetoscope, or the kinds of models that are installed here,
            have no such config.
    """
    return validated(json.loads(data), source)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file, for editors."""
    schema = RunConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Kinetoscope recipe"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Recipe (name or file) whose values these override.",
    }
    # A recipe that extends another need not repeat what that one has.
    schema.pop("required", None)
    return schema


def _find(recipe: str, *, beside: Path | None) -> Path:
    folder = beside.parent if beside else Path.cwd()
    for path in (_RECIPES / f"{recipe}.yaml", folder / recipe):
        if path.is_file() and path.suffix in (".yaml", ".yml"):
            return path
    raise NotFoundError(
        f"there is no recipe {recipe!r}",
        hint=f"recipes are {', '.join(list_recipes())}; or give the path of a .yaml file",
    )


def _read(path: Path, seen: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    if path in seen:
        raise ConfigError(f"recipes extend each other in a circle: {[p.name for p in seen]}")
    tree = _plain(path)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {type(tree).__name__}: a mapping of config keys is needed")
    parent = tree.pop("extends", None)
    origins = {key: path.stem for key, _ in _leaves(tree)}
    if parent is not None:
        base, base_origins = _read(_find(str(parent), beside=path), (*seen, path))
        tree, origins = _merge(base, tree), base_origins | origins
    _name_kinds(tree)
    return tree, origins


def _plain(path: Path) -> Any:
    """Return what a YAML file holds, as plain values."""
    try:
        # Through JSON: what YAML aliases share must not change together.
        return json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: no valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML text: {error}", hint="save it as UTF-8") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} holds what no config has, e.g. a date, a set or a loop: {error}",
            hint="put quotes around what shall be text",
        ) from None


def _name_kinds(tree: dict[str, Any]) -> None:
    """Write out the kinds that models have by default: a recipe may name them to extend them."""
    models = tree.get("models")
    for name, kind in _DEFAULT_KINDS.items():
        model = models.get(name) if isinstance(models, dict) else None
        if isinstance(model, dict):
            model.setdefault("kind", kind)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings key by key; lists, and choices of another ``kind``, are replaced whole."""
    if "kind" in over and over["kind"] != base.get("kind"):
        return dict(over)
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _apply(tree: dict[str, Any], origins: dict[str, str], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"override {override!r} is not of the form a.b=value",
            hint="for example --set seed=7 or --set train_dit.0.loop.num_steps=100",
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"the value of override {override!r} is not valid YAML") from None
    node: Any = tree
    for key in keys[:-1]:
        node = _child(node, key, path)
    if isinstance(node, list):
        node[_index(node, keys[-1], path)] = copy.deepcopy(value)
    else:
        node[keys[-1]] = copy.deepcopy(value)
    origins.update({leaf: "--set" for leaf, _ in _leaves(value, path)})


def _child(node: Any, key: str, path: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, key, path)]
    child = node.setdefault(key, {})
    if child is None:
        child = node[key] = {}
    if not isinstance(child, dict | list):
        raise ConfigError(f"override {path!r}: {key!r} is the value {child!r} and has no keys")
    return child


def _index(node: list[Any], key: str, path: str) -> int:
    if not key.isdecimal() or int(key) >= len(node):
        raise ConfigError(
            f"override {path!r}: {key!r} is no index of a list of {len(node)}; "
            f"0 to {len(node) - 1} are"
        )
    return int(key)


def _leaves(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return (dotted path, value); a list of plain values is one leaf."""
    if isinstance(tree, dict) and tree:
        pairs = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list) and any(isinstance(item, dict) for item in tree):
        pairs = [(str(index), value) for index, value in enumerate(tree)]
    else:
        return [(prefix, tree)]
    return [
        leaf
        for key, value in pairs
        for leaf in _leaves(value, f"{prefix}.{key}" if prefix else key)
    ]
