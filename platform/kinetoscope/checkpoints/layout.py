"""The records and names of a checkpoint's files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import Field, NonNegativeInt

from kinetoscope.core.config_model import Record

FORMAT_VERSION = 1
ROOT = "checkpoints"
INDEX = "index.json"
MANIFEST = "MANIFEST.json"

_FOLDER = re.compile(rf"{ROOT}/step-(\d+)-gen-(\d+)-save-(\d+)")


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
    """``MANIFEST.json``: all that a checkpoint is; its digest is what the ledger names."""

    format_version: int = FORMAT_VERSION
    step: int
    generation: int
    """Attempt of the training step that wrote it."""
    save: int
    """Which save of that attempt it is."""
    identity: str = ""
    """Of the training step; empty: of none."""
    files: dict[str, StoredFile]
    digest: str = Field(default="", exclude=True)
    """Of its bytes as they are stored, so not stored with them: of all that the checkpoint is."""

    @property
    def size_bytes(self) -> int:
        """Size of the whole checkpoint, its manifest included."""
        return len(self.to_bytes()) + sum(file.size_bytes for file in self.files.values())


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Which save of which attempt a checkpoint is, and of which step of training.

    No other save has the same, so what a superseded attempt still writes is in nobody's way.
    """

    generation: int
    save: int
    step: int

    @property
    def prefix(self) -> str:
        """The key prefix of the checkpoint."""
        return f"{ROOT}/step-{self.step:08d}-gen-{self.generation:06d}-save-{self.save:04d}"


def parse_place(key: str) -> Place | None:
    """Return the place of the checkpoint that a key belongs to, or None."""
    match = _FOLDER.match(key)
    return Place(int(match[2]), int(match[3]), int(match[1])) if match else None


def join(prefix: str, name: str) -> str:
    """Return the key of a checkpoint's file; the prefix may be empty."""
    return f"{prefix}/{name}" if prefix else name
