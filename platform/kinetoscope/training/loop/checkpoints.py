"""Where a training keeps its checkpoints, and what it goes on from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.checkpoints.read import Checkpoint, read_checkpoint
from kinetoscope.checkpoints.retention import prune, sweep
from kinetoscope.checkpoints.write import Author, Tensors, write_checkpoint
from kinetoscope.core.errors import CorruptError, NotFoundError, StorageError
from kinetoscope.core.hashing import digest_json
from kinetoscope.steps.contract import step_identity
from kinetoscope.steps.ledger.entries import Damaged, Saved
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.repeating import may_pass
from kinetoscope.steps.worker import StepContext
from kinetoscope.storage.store import ObjectStore

_log = logging.getLogger(__name__)


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
        """Return the newest checkpoint that counts; None: training starts afresh.

        Raises:
            SupersededError: a later attempt has begun.
        """
        ...

    def load(self, chosen: ChosenCheckpoint) -> Checkpoint:
        """Read a checkpoint that was chosen, perhaps by another rank.

        Raises:
            CorruptError: it is damaged, gone or another one, as a second look showed.
            StorageError: it can't be read now; an older one is no answer to that.
        """
        ...

    def give_up(self, chosen: ChosenCheckpoint, reason: str) -> None:
        """Note that a checkpoint is damaged: it counts no more."""
        ...

    def save(self, groups: Tensors, state: CheckpointState) -> SavedCheckpoint:
        """Commit a checkpoint; older ones may go."""
        ...


@dataclass(slots=True, kw_only=True)
class StoreCheckpoints:
    """Checkpoints of a step, in its object store; its ledger says which of them count.

    Attributes:
        store: of the step; checkpoints are below its ``checkpoints/``.
        keep: how many stay, at least 1.
        generation: number of this attempt of the step.
        scratch: folder for files before they are uploaded; the system's by default.
        identity: of the step, which each of its checkpoints carries; empty: of none.
        config_hash: digest of the training's config.
        lineage: digests of what the weights come from.
        stays: whether a later attempt finds them.
    """

    store: ObjectStore
    keep: int
    generation: int
    scratch: Path | None = None
    identity: str = ""
    config_hash: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)
    stays: bool = True
    _ledger: Ledger = field(init=False)
    _num_saves: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._ledger = Ledger(self.store)

    @classmethod
    def of_step(cls, ctx: StepContext, *, keep: int) -> StoreCheckpoints:
        """Return those of a step, which its later attempts go on from."""
        return cls(
            store=ctx.store,
            keep=keep,
            generation=ctx.generation,
            scratch=ctx.scratch,
            identity=step_identity(ctx.name, ctx.fingerprint),
            config_hash=digest_json(ctx.config),
            lineage={name: result.digest for name, result in ctx.inputs.items()},
        )

    def choose(self) -> ChosenCheckpoint | None:
        """Return the newest checkpoint that counts; what earlier attempts left over goes."""
        state = self._ledger.check(self.generation)
        with _while_possible("what earlier attempts left is not deleted"):
            sweep(self.store, state)
        newest = state.newest
        if newest is None:
            return None
        return ChosenCheckpoint(newest.prefix, newest.manifest, newest.step)

    def load(self, chosen: ChosenCheckpoint) -> Checkpoint:
        """Read a checkpoint that was chosen, perhaps by another rank."""
        try:
            return self._read(chosen)
        except CorruptError as error:
            _log.warning("reading %s again: %s", chosen.prefix, error.message)
            return self._read(chosen)

    def give_up(self, chosen: ChosenCheckpoint, reason: str) -> None:
        """Note that a checkpoint is damaged: it counts no more."""
        _log.warning("passing over the checkpoint %s: %s", chosen.prefix, reason)
        damaged = Damaged(prefix=chosen.prefix, reason=reason)
        self._ledger.append(lambda _: damaged, self.generation)

    def save(self, groups: Tensors, state: CheckpointState) -> SavedCheckpoint:
        """Save a checkpoint, and delete old ones.

        Args:
            groups: tensors by group and name.
            state: without the config's digest and the lineage, which are added here.

        Raises:
            SupersededError: a later attempt has begun; this one's checkpoint does not count.
        """
        origin = {"config_hash": self.config_hash, "lineage": dict(self.lineage)}
        self._num_saves += 1
        prefix, manifest = write_checkpoint(
            self.store,
            tensors=groups,
            state=state.model_copy(update=origin),
            author=Author(self.generation, self._num_saves, self.identity),
            scratch=self.scratch,
        )
        saved = Saved(prefix=prefix, manifest=manifest.digest, step=manifest.step)
        self._ledger.append(lambda _: saved, self.generation)
        with _while_possible("old checkpoints are not deleted"):
            prune(self.store, self._ledger, generation=self.generation, keep_last=self.keep)
        return SavedCheckpoint(prefix, manifest.size_bytes)

    def _read(self, chosen: ChosenCheckpoint) -> Checkpoint:
        try:
            found = read_checkpoint(self.store, chosen.prefix, identity=self.identity)
        except NotFoundError as error:
            raise CorruptError(error.message) from None
        if found.digest != chosen.digest:
            raise CorruptError(
                f"{self.store.uri}/{chosen.prefix} is not the checkpoint that was agreed on: it "
                f"has {found.digest}, and {chosen.digest} was"
            )
        return found


@contextmanager
def _while_possible(otherwise: str) -> Iterator[None]:
    """Do what can wait until the store answers."""
    try:
        yield
    except (StorageError, OSError) as error:
        if not may_pass(error):
            raise
        _log.warning("%s: %s", otherwise, error)
