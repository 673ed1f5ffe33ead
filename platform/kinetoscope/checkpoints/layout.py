"""The records and names of a checkpoint's files."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, NonNegativeInt

from kinetoscope.core.config_model import Record
from kinetoscope.core.hashing import digest_json

FORMAT_VERSION = 1
ROOT = "checkpoints"
INDEX = "index.json"
MANIFEST = "MANIFEST.json"

_FOLDER = re.compile(rf"{ROOT}/step-(\d+)-gen-(\d+)")


class CheckpointState(Record):
    """What training needs besides tensors to go on where it was."""

    step: NonNegativeInt
    """Optimizer steps done."""
    epoch: NonNegativeInt = 0
    plan_position: NonNegativeInt = 0
    """Steps of that epoch's plan that are done."""
    world_size: NonNegativeInt = 0
    """Ranks that trained the step; 0 where that was not noted."""
    engine: str = ""
    threads: NonNegativeInt = 0
    """CPU threads of a rank: sums in another order have other last bits."""
    config_hash: str = ""
    scheduler: dict[str, Any] = Field(default_factory=dict)
    lineage: dict[str, str] = Field(default_factory=dict)
    """Digests of what the weights come from: data, parent checkpoints, code."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Other plain JSON of the trainer (samples seen, optimizer's scalars)."""


class StoredSlice(Record):
    """A box of a tensor: where it begins in the whole, and where it is stored."""

    file: str
    key: str
    offsets: tuple[int, ...]
    shape: tuple[int, ...]


class StoredTensor(Record):
    """One tensor: whole in ``file``, or in slices."""

    dtype: str
    shape: tuple[int, ...]
    file: str = ""
    slices: tuple[StoredSlice, ...] = ()


class Index(Record):
    """``index.json``."""

    format_version: int = FORMAT_VERSION
    state: CheckpointState
    tensors: dict[str, dict[str, StoredTensor]]
    """By group (weights, optimizer, ema), then by parameter name."""


class StoredFile(Record):
    """Size and digest of one file."""

    size_bytes: int
    sha256: str


class Manifest(Record):
    """``MANIFEST.json``: the commit of a checkpoint."""

    format_version: int = FORMAT_VERSION
    step: int
    generation: int
    """Attempt of the training step that wrote it; a later attempt's checkpoints count more."""
    identity: str = ""
    """Of the training step; empty in what earlier versions wrote."""
    files: dict[str, StoredFile]

    @property
    def digest(self) -> str:
        """Digest of all that the checkpoint is."""
        return digest_json(self.model_dump(mode="json"))


def folder(step: int, generation: int) -> str:
    """Return the key prefix of a checkpoint."""
    return f"{ROOT}/step-{step:08d}-gen-{generation:06d}"


def parse_folder(key: str) -> tuple[int, int] | None:
    """Return (generation, step) of the checkpoint that a key belongs to, or None."""
    match = _FOLDER.match(key)
    return (int(match[2]), int(match[1])) if match else None


def join(prefix: str, name: str) -> str:
    """Return the key of a checkpoint's file; the prefix may be empty."""
    return f"{prefix}/{name}" if prefix else name
