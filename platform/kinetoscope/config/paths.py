"""Look at the files that a config names, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kinetoscope.config.load import LoadedConfig
from kinetoscope.config.problems import Problem, refuse_problems
from kinetoscope.core.config_model import Config, Effect, effect_of
from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.models.text.config import T5Config
from kinetoscope.models.text.t5_folder import check_t5_folder
from kinetoscope.models.weight_files import check_weights


def check_paths(loaded: LoadedConfig) -> None:
    """Refuse a config that names files which are missing, can't be read, or are something else.

    Raises:
        ConfigError: naming file, line and key of each such path, and what is wrong with it.
    """
    problems = []
    for keys, owner, path in named_paths(loaded.config):
        told = _told(owner, Path(path))
        if told:
            problems.append(Problem(keys, told))
    hint = "give absolute paths of files and folders on this machine; nothing is downloaded"
    refuse_problems(loaded.source, loaded.tree, problems, hint=hint)


def named_paths(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[Any, Config, str]]:
    """Yield the keys, the config that holds it, and the text of each path in a config."""
    if isinstance(value, Config):
        for name in type(value).model_fields:
            part = getattr(value, name)
            if effect_of(value, name) is not Effect.FILES:
                yield from named_paths(part, (*keys, name))
            elif part is not None:
                yield (*keys, name), value, part
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from named_paths(part, (*keys, str(key)))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from named_paths(part, (*keys, str(index)))


def _told(owner: Config, path: Path) -> str:
    """Return what is wrong with a path, or nothing."""
    try:
        if not path.is_absolute():
            whole = path.expanduser().absolute()
            return f"{str(path)!r} depends on the current folder or user: give {whole}"
        if isinstance(owner, T5Config):
            check_t5_folder(path, owner.width)
        else:
            check_weights(path)
    except KinetoscopeError as error:
        return error.message
    except (OSError, ValueError, RuntimeError) as error:
        return f"{path} can't be read: {getattr(error, 'strerror', None) or error}"
    return ""
