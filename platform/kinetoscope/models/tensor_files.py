"""Reading tensors from weight files that others have made.

Nothing in a file is executed, and no file outside the named folder is opened.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.models.weight_files import INDEX_SUFFIX, few, weight_file, weight_map

_FIRST_SAFE_TORCH = (2, 6)
_TABLES = ("state_dict", "model", "module", "ema")
"""Under which names training scripts keep a table of tensors beside other things."""


class LazyWeights(Mapping[str, Tensor]):
    """Named tensors that are read each time they are asked for.

    Iterating in order reads each file once. Nothing is kept, so that a model that copies tensor by
    tensor needs memory for itself alone.

    Args:
        readers: how each tensor is read.
    """

    def __init__(self, readers: Mapping[str, Callable[[], Tensor]]) -> None:
        self._readers = dict(readers)

    @property
    def readers(self) -> dict[str, Callable[[], Tensor]]:
        """How each tensor is read."""
        return dict(self._readers)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> LazyWeights:
        """Return the same with some tensors added or replaced."""
        given = {name: partial(tensors.__getitem__, name) for name in tensors}
        return LazyWeights({**self._readers, **given})

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor."""
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, file by file."""
        return iter(self._readers)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._readers)


def read_state_dict(path: Path, *, table: str | None = None) -> dict[str, Tensor]:
    """Read all tensors of a file or folder into memory; arguments and errors as `open_weights`."""
    return dict(open_weights(path, table=table))


def open_weights(path: Path, *, table: str | None = None) -> LazyWeights:
    """Open named tensors without reading them yet.

    Torch files (``.pt``, ``.pth``, ``.bin``) are pickles: they are opened with ``weights_only`` and
    on torch >= 2.6 alone, since before that the restriction could be broken out of
    (CVE-2025-32434).

    Args:
        path: a safetensors or torch file, the index of a sharded one (``*.index.json``), or a
            folder with one of them (Hugging Face's layout; or ColossalAI's, with a folder
            ``model`` in it).
        table: of a torch file that holds several tables of tensors, the one to take.

    Raises:
        NotFoundError: there is no such file, or a shard is missing.
        ConfigError: the file is damaged or holds something else than tensors, the index is not
            sound, or this torch must not open it. A tensor of 8 bits, or with a value that is not
            finite, raises when it is read.
    """
    path = weight_file(path)
    if path.name.endswith(INDEX_SUFFIX):
        return LazyWeights(_read_index(path))
    return LazyWeights(_open_file(path, table))


def _read_index(path: Path) -> dict[str, Callable[[], Tensor]]:
    """Return readers of a sharded file's tensors, shard by shard."""
    shards: dict[str, list[str]] = {}
    for name, shard in weight_map(path).items():
        shards.setdefault(shard, []).append(name)
    readers: dict[str, Callable[[], Tensor]] = {}
    owner: dict[str, str] = {}
    for shard in sorted(shards):
        if not (path.parent / shard).is_file():
            raise NotFoundError(
                f"{path.parent / shard} is missing: {path.name} puts {len(shards[shard])} tensors "
                "there",
                hint="copy or download all shards",
            )
        held = _open_file(path.parent / shard, None)
        absent = sorted(set(shards[shard]) - set(held))
        if absent:
            raise ConfigError(f"{path.parent / shard} lacks {len(absent)} tensors: {few(absent)}")
        twice = sorted(name for name in held if name in owner)
        if twice:
            raise ConfigError(f"{shard} and {owner[twice[0]]} both hold {few(twice)}")
        owner |= dict.fromkeys(held, shard)
        readers |= held
    return readers


def _open_file(path: Path, table: str | None) -> dict[str, Callable[[], Tensor]]:
    is_safe = path.suffix == ".safetensors"
    readers = _open_safetensors(path) if is_safe else _open_torch_file(path, table)
    return {name: partial(_usable, path, name, read) for name, read in readers.items()}


def _usable(path: Path, name: str, read: Callable[[], Tensor]) -> Tensor:
    """Read a tensor; raises ``ConfigError`` where a model would make noise of it without a word."""
    tensor = read()
    if not tensor.is_floating_point():
        return tensor
    if tensor.element_size() == 1:
        raise ConfigError(
            f"{path}: {name} is of {tensor.dtype}, whose scale lies elsewhere",
            hint="take the weights in bfloat16, float16 or float32",
        )
    if not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).sum())
        raise ConfigError(
            f"{path}: {bad} of {tensor.numel()} values of {name} are NaN or infinite",
            hint="the file is damaged, or training had diverged: take another one",
        )
    return tensor


def _open_safetensors(path: Path) -> dict[str, Callable[[], Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            names: list[str] = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} is not a safetensors file: {error}") from error

    def reader(name: str) -> Callable[[], Tensor]:
        def read() -> Tensor:
            # Opened anew: a file that stays open keeps all its pages that were read in memory.
            with safe_open(path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
            return tensor

        return read

    return {name: reader(name) for name in names}


def _open_torch_file(path: Path, table: str | None) -> dict[str, Callable[[], Tensor]]:
    tensors = _read_torch_file(path, table)
    return {name: partial(tensors.__getitem__, name) for name in tensors}


def _read_torch_file(path: Path, table: str | None) -> dict[str, Tensor]:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _FIRST_SAFE_TORCH:
        raise ConfigError(
            f"{path} is a torch file, which torch {torch.__version__} can't open safely",
            hint="convert it to safetensors, or use torch >= 2.6",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that are then refused
            value = _load(path)
    except Exception as error:  # on hostile bytes the restricted reader raises anything
        raise ConfigError(
            f"{path} holds more than tensors or is damaged; it was not opened",
            hint="convert it to safetensors where you trust it",
        ) from error
    return _table_of(path, value, table)


def _load(path: Path) -> object:
    try:
        # Maps the file into memory: tensors are read from it when they are copied.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:
        # Files older than torch 1.6 are no zip archives and can't be mapped.
        return torch.load(path, map_location="cpu", weights_only=True)


def _table_of(path: Path, value: object, table: str | None) -> dict[str, Tensor]:
    """Return the table of tensors in what a torch file holds."""
    if table is None and _is_table(value):
        return value  # type: ignore[return-value]  # _is_table looked
    nested: dict[str, Any] = value if isinstance(value, dict) else {}
    found = [key for key in nested if isinstance(key, str) and _is_table(nested[key])]
    alone = found[0] if len(found) == 1 and found[0] in _TABLES else None
    chosen = table or alone
    if chosen in found:
        return dict(nested[chosen])
    wanted = "no table of tensors" if table is None else f"no table {table!r}"
    if table is None and found:
        wanted = f"tables of tensors named {', '.join(sorted(found))}"
    raise ConfigError(
        f"{path} holds {wanted}" + (f", but {', '.join(sorted(found))}" if table else ""),
        hint="name one with `table`, or save it to a safetensors file of its own"
        if found
        else None,
    )


def _is_table(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )
