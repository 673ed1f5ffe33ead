"""Files of weights that others have made: which one a folder holds, and whether it can be one.

Nothing here needs torch, and of a file little more than its table of contents is read.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.core.text import shortened

INDEX_SUFFIX = ".index.json"
"""Of the file that names the shards of weights."""
_MAX_INDEX_BYTES = 64 << 20
# https://github.com/huggingface/safetensors#format
_MAX_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
# What writers of weights call their file, the safer format first.
_NAMES = (
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
# Torch's files before 1.6: a pickle of this number comes first.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# The number, the version, the machine, and the table of tensors; their values follow.
_OLD_TORCH_PICKLES = 4
# What torch builds when it may load weights alone, by module and name.
_PARTS_OF_TENSORS = re.compile(
    r"torch(?!\.nn\.modules)(?:\.\S+)? \S+|collections (?:OrderedDict|Counter)|_codecs encode"
    r"|(?:__builtin__|builtins) (?:bytearray|set|complex)"
)
_LFS_POINTER = b"version https://git-lfs"
_CONVERT = "convert it to safetensors where you trust it"


def check_weights(path: Path) -> None:
    """Look whether a file or folder can be weights; what they hold is not read.

    Args:
        path: as `tensor_files.open_weights` takes it.

    Raises:
        NotFoundError: there is none, or a shard is missing.
        ConfigError: it is of another form, or cut short.
        OSError: it can't be read.
    """
    path = weight_file(path)
    if not path.name.endswith(INDEX_SUFFIX):
        _check_file(path)
        return
    for shard in sorted(set(weight_map(path).values())):
        file = path.parent / shard
        if not file.is_file():
            raise NotFoundError(f"{file} is missing, which {path.name} names")
        _check_file(file)


def weight_file(path: Path) -> Path:
    """Return the file, or the one or the index that a folder holds.

    Raises:
        NotFoundError: there is none.
        ConfigError: there are several.
    """
    if path.is_dir():
        path = _file_in(path)
    if not path.is_file():
        raise NotFoundError(f"no weight file at {path}", hint="give the path of a local file")
    return path


def weight_map(path: Path) -> dict[str, str]:
    """Return the shard of each tensor from an index; raises ``ConfigError``."""
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise ConfigError(f"{path} is too large for an index: {path.stat().st_size} bytes")
    try:
        index = json.loads(path.read_bytes(), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no valid index: {error}") from error
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise ConfigError(f"{path} has no table 'weight_map'")
    for name, shard in shards.items():
        plain = isinstance(shard, str) and shard not in ("", ".", "..")
        if not plain or set(shard) & {"/", "\\", "\0"} or shard.endswith(INDEX_SUFFIX):
            raise ConfigError(
                f"{path}: the shard of {name} is {shard!r}, not the name of a file beside the index"
            )
    return shards


def few(names: list[str]) -> str:
    """Return the first five of some names."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""  # noqa: PLR2004 - enough to see
    return ", ".join(names[:5]) + more


def _file_in(folder: Path) -> Path:
    for name in _NAMES:
        if (folder / name).is_file():
            return folder / name
    for pattern in ("*" + INDEX_SUFFIX, "*.safetensors", "*.bin", "*.pt", "*.pth"):
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise ConfigError(
                f"{folder} has several weight files: {', '.join(p.name for p in found[:5])}",
                hint="name the one to read",
            )
        if found:
            return found[0]
    if (folder / "model").is_dir():
        return _file_in(folder / "model")
    raise NotFoundError(
        f"no weight file in {folder}", hint=f"it should have one of {', '.join(_NAMES)}"
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"given twice: {few(sorted({k for k in keys if keys.count(k) > 1}))}")
    return table


def _check_file(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
        if start == _LFS_POINTER:
            raise ConfigError(
                f"{path} is a Git LFS pointer, not the weights", hint="git lfs pull fetches them"
            )
        file.seek(0)
        if path.suffix == ".safetensors":
            _check_safetensors(path, file)
        elif start.startswith(_OLD_TORCH):
            _check_pickles(path, file, _OLD_TORCH_PICKLES)
        else:
            _check_torch_archive(path, file)


def _check_safetensors(path: Path, file: BinaryIO) -> None:
    """Refuse a file whose header can't be read, or whose tensors are not all there."""
    size = path.stat().st_size
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if size < _LENGTH_BYTES + length or length > _MAX_HEADER_BYTES:
        raise ConfigError(f"{path} is no safetensors file, or was cut short: it has {size} bytes")
    try:
        header = json.loads(file.read(length))
        parts = [value["data_offsets"] for key, value in header.items() if key != "__metadata__"]
        needed = _LENGTH_BYTES + length + max((end for _, end in parts), default=0)
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError, IndexError):
        raise ConfigError(f"{path} is no safetensors file: its header can't be read") from None
    if size != needed:
        what = "was cut short" if size < needed else "has more at its end than its tensors"
        raise ConfigError(f"{path} {what}: it has {size} bytes, its header tells of {needed}")


def _check_torch_archive(path: Path, file: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("data.pkl")]
            table = archive.read(names[0]) if names else b""
    except (zipfile.BadZipFile, ValueError, NotImplementedError, zlib.error):
        raise ConfigError(
            f"{path} is neither a safetensors file (*.safetensors) nor a torch file: it is another "
            "pickle or something else, or was cut short",
            hint=_CONVERT,
        ) from None
    if not names:
        raise ConfigError(f"{path} is a ZIP archive, but no torch file", hint=_CONVERT)
    _check_pickles(path, io.BytesIO(table), 1)


def _check_pickles(path: Path, file: BinaryIO, count: int) -> None:
    """Refuse pickles that name more than what tensors are made of; none is executed."""
    try:
        for _ in range(count):
            for code, named, _ in pickletools.genops(file):
                if code.name == "STACK_GLOBAL":
                    raise ConfigError(
                        f"{path} was saved in a protocol of pickle above 2, of which torch reads "
                        "no weights",
                        hint=_CONVERT,
                    )
                if code.name == "GLOBAL" and not _PARTS_OF_TENSORS.fullmatch(str(named)):
                    raise ConfigError(
                        f"{path} holds more than tensors: it names {shortened(str(named))}",
                        hint=_CONVERT,
                    )
    except (ValueError, IndexError, struct.error):
        raise ConfigError(f"{path} is no torch file, or was cut short", hint=_CONVERT) from None
