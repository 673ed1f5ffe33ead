"""What a step is: all that changes its result, in one fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetoscope import __version__
from kinetoscope.config.paths import named_paths
from kinetoscope.core.code_version import code_digest, sources_digest
from kinetoscope.core.config_model import Config, Effect, effect_of
from kinetoscope.core.errors import ConfigError, StorageError
from kinetoscope.core.file_digests import FileDigests
from kinetoscope.core.hashing import digest_json
from kinetoscope.models.config import ModelConfig
from kinetoscope.models.kinds import modules_of
from kinetoscope.runs.steps import RunStep
from kinetoscope.steps.results import read_result

_FINGERPRINT_CHARS = 16
_CODE_CHARS = 12


@dataclass(frozen=True, slots=True)
class Identity:
    """A step's fingerprint and what it was made of.

    Attributes:
        fingerprint: 16 hex digits; equal ones mean equal results.
        inputs: digests of the upstream results, by input name.
        code_version: of all code that the worker can reach. It is told, but is no part of the
            fingerprint: what a released version changes in results, it says by a step's revision.
    """

    fingerprint: str
    inputs: dict[str, str]
    code_version: str


def identify(
    step: RunStep,
    *,
    seed: int,
    data: str,
    inputs: Mapping[str, str],
    weights: Mapping[str, str],
) -> Identity:
    """Return what the step is.

    Args:
        step: its piece of config and its revision.
        seed: of the run.
        data: digest of the list of source videos, which a step without inputs reads.
        inputs: URIs of the upstream steps, by input name.
        weights: digests of files of weights by path, from `weights_digests`.
    """
    modules = modules_of_step(step)
    digests = {name: _result_digest(name, uri) for name, uri in inputs.items()}
    value = {
        "name": step.name,
        "revision": step.revision,
        "config": content(step.piece, step.piece.to_json(), weights),
        "data": "" if inputs else data,
        "seed": seed,
        "inputs": digests,
        "sources": sources_digest(*modules),
    }
    fingerprint = digest_json(value).removeprefix("sha256:")[:_FINGERPRINT_CHARS]
    return Identity(fingerprint, digests, code_version(*modules))


def code_version(*modules: str) -> str:
    """Return the version of the code that modules can reach, e.g. ``0.1.0+3f29ab04c1d2``."""
    digest = code_digest(*modules).removeprefix("sha256:")
    return f"{__version__}+{digest[:_CODE_CHARS]}"


def content(value: Any, stored: Any, weights: Mapping[str, str]) -> Any:
    """Return the part of a config, as JSON, that decides what a step makes.

    Args:
        value: the config, or a part of it.
        stored: the same as JSON.
        weights: digests that stand for paths.
    """
    if isinstance(value, Config):
        kept: dict[str, Any] = {}
        for name in type(value).model_fields:
            effect, part = effect_of(value, name), getattr(value, name)
            if effect is Effect.FILES and part is not None:
                kept[name] = weights[part]
            elif effect is not Effect.NONE:
                kept[name] = content(part, stored[name], weights)
        revision = {"revision": value.revision} if isinstance(value, ModelConfig) else {}
        return kept | revision
    if isinstance(value, Mapping):
        return {key: content(part, stored[key], weights) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [content(*pair, weights) for pair in zip(value, stored, strict=True)]
    return stored


def weights_digests(configs: list[Config], cache: Path) -> dict[str, str]:
    """Return the digests of all files and folders of weights that configs name, by path.

    Args:
        configs: that may name some.
        cache: file that remembers digests of files that did not change.

    Raises:
        ConfigError: one is missing, or its path is relative.
    """
    known = FileDigests(cache)
    paths = sorted({path for config in configs for _, _, path in named_paths(config)})
    digests = {}
    for path in paths:
        try:
            digests[path] = known.digest(Path(path))
        except OSError as error:
            raise ConfigError(
                f"the config names weights at {path!r}, which can't be read ({error.strerror})",
                hint="give the path of a file or folder on this machine",
            ) from None
        if not Path(path).is_absolute():
            raise ConfigError(
                f"the config names weights at {path!r}, a path that depends on the current folder",
                hint=f"give {Path(path).absolute()}",
            )
    known.save()
    return digests


def modules_of_step(step: RunStep) -> set[str]:
    """Return the modules that a step starts from: its worker, and the kinds of its models."""
    kinds = [modules_of(part) for part in _parts(step.piece) if isinstance(part, ModelConfig)]
    return {step.worker}.union(*kinds)


def _parts(value: Any) -> list[Any]:
    """Return a value and all that it holds."""
    if isinstance(value, Config):
        inner = [getattr(value, name) for name in type(value).model_fields]
    elif isinstance(value, Mapping):
        inner = list(value.values())
    else:
        inner = list(value) if isinstance(value, list | tuple) else []
    return [value, *(part for item in inner for part in _parts(item))]


def _result_digest(name: str, uri: str) -> str:
    result = read_result(uri)
    if result is None:
        raise StorageError(f"input {name!r} has no committed result at {uri}")
    return result.digest
