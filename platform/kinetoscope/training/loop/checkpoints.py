"""Where a training keeps its checkpoints, and what it goes on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.checkpoints.read import Checkpoint, read_checkpoint, read_manifest
from kinetoscope.checkpoints.retention import latest_checkpoint, prune
from kinetoscope.checkpoints.write import Author, Tensors, write_checkpoint
from kinetoscope.core.errors import CorruptError
from kinetoscope.core.hashing import digest_json
from kinetoscope.steps.contract import step_identity
from kinetoscope.steps.worker import StepContext
from kinetoscope.storage.store import ObjectStore


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """A committed checkpoint: its key prefix, and its size in bytes."""

    prefix: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class ChosenCheckpoint:
    """A checkpoint to go on from.

    Attributes:
        prefix: its key prefix.
        digest: of its manifest, and so of all of it.
        step: optimizer steps done.
    """

    prefix: str
    digest: str
    step: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


class Checkpoints(Protocol):
    """Keeps the checkpoints of one training."""

    @property
    def stays(self) -> bool:
        """Whether a later attempt finds what is saved."""
        ...

    def choose(self) -> ChosenCheckpoint | None:
        """Return the newest good checkpoint; None: training starts afresh.

        Raises:
            StorageError: what there is can't be read now; an older one is no answer to that.
        """
        ...

    def load(self, chosen: ChosenCheckpoint) -> Checkpoint:
        """Read a checkpoint that was chosen, perhaps by another rank.

        Raises:
            CorruptError: it is another one.
        """
        ...

    def save(self, groups: Tensors, state: CheckpointState) -> SavedCheckpoint:
        """Commit a checkpoint; older ones may go."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCheckpoints:
    """Checkpoints in an object store.

    Attributes:
        store: of the training; checkpoints are below its ``checkpoints/``.
        keep: how many stay, at least 1.
        generation: number of this attempt of the training.
        check_fence: raises ``SupersededError`` when a later attempt has taken over.
        scratch: folder for files before they are uploaded; the system's by default.
        identity: of the step, which each of its checkpoints carries; empty: of none.
        config_hash: digest of the training's config.
        lineage: digests of what the weights come from.
        stays: whether a later attempt finds them.
    """

    store: ObjectStore
    keep: int
    generation: int = 1
    check_fence: Callable[[], None] = lambda: None
    scratch: Path | None = None
    identity: str = ""
    config_hash: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)
    stays: bool = True

    @classmethod
    def of_step(cls, ctx: StepContext, *, keep: int) -> StoreCheckpoints:
        """Return those of a step, which its later attempts go on from."""
        return cls(
            store=ctx.store,
            keep=keep,
            generation=ctx.generation,
            check_fence=ctx.superseded_check,
            scratch=ctx.scratch,
            identity=step_identity(ctx.name, ctx.fingerprint),
            config_hash=digest_json(ctx.config),
            lineage={name: result.digest for name, result in ctx.inputs.items()},
        )

    def choose(self) -> ChosenCheckpoint | None:
        """Return the newest good checkpoint; a damaged one is passed over."""
        prefix = latest_checkpoint(self.store, identity=self.identity)
        if prefix is None:
            return None
        manifest = read_manifest(self.store, prefix)
        return ChosenCheckpoint(prefix, manifest.digest, manifest.step)

    def load(self, chosen: ChosenCheckpoint) -> Checkpoint:
        """Read a checkpoint that was chosen, perhaps by another rank."""
        found = read_checkpoint(self.store, chosen.prefix, identity=self.identity)
        if found.digest != chosen.digest:
            raise CorruptError(
                f"{self.store.uri}/{chosen.prefix} is not the checkpoint that was agreed on: it "
                f"has {found.digest}, and {chosen.digest} was"
            )
        return found

    def save(self, groups: Tensors, state: CheckpointState) -> SavedCheckpoint:
        """Commit a checkpoint and delete old ones.

        Args:
            groups: tensors by group and name.
            state: without the config's digest and the lineage, which are added here.
        """
        origin = {"config_hash": self.config_hash, "lineage": dict(self.lineage)}
        prefix = write_checkpoint(
            self.store,
            tensors=groups,
            state=state.model_copy(update=origin),
            author=Author(self.generation, self.identity, self.check_fence),
            scratch=self.scratch,
        )
        prune(self.store, keep_last=self.keep)
        num_bytes = sum(file.size_bytes for file in self.store.list(prefix))
        return SavedCheckpoint(prefix, num_bytes)
