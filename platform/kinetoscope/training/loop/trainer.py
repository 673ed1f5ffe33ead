"""The training loop of all models."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.checkpoints.read import Checkpoint
from kinetoscope.core.errors import (
    ConfigError,
    DivergedError,
    PreemptedError,
    StorageError,
)
from kinetoscope.data.plan.batch_plan import MicroBatch, check_world_size
from kinetoscope.steps.repeating import may_pass
from kinetoscope.steps.worker import Outputs
from kinetoscope.training.engine.base import Engine
from kinetoscope.training.engine.choice import build_engine
from kinetoscope.training.loop.agreement import agree_on_checkpoint, agree_on_start
from kinetoscope.training.loop.checkpoints import Checkpoints
from kinetoscope.training.loop.clock import ForwardClock
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.loop.ema import EMA
from kinetoscope.training.loop.lr_schedule import learning_rate
from kinetoscope.training.loop.outcome import OutcomeSum, StepOutcome
from kinetoscope.training.loop.pinning import loads_for
from kinetoscope.training.loop.prefetch import prefetch
from kinetoscope.training.loop.surroundings import Surroundings
from kinetoscope.training.loop.task import Batch, Task

# The save of a last step is tried again for this share of the time that the other ranks wait.
_NEEDED_SAVE_SHARE = 0.8


def fit(
    around: Surroundings, task: Task, config: TrainLoopConfig, *, sequence_parallel: int = 1
) -> Outputs | None:
    """Train a task to its last step, from its latest checkpoint if it has one.

    Args:
        around: where this rank trains; its reporter is closed at the end.
        task: the work.
        config: of the loop.
        sequence_parallel: ranks that share the patches of a sample, where the model can.

    Returns:
        On rank 0 the outputs, with the artifact ``checkpoint``; None on the others.

    Raises:
        ConfigError: the number of ranks can't share a step, or the environment lacks the engine.
        PreemptedError: told to stop; the step in progress was finished and saved.
        DivergedError: the loss or its gradient is not finite; nothing of that step is kept.
        LostPeerError: another rank has ended, or can't be reached.
    """
    ranks = around.ranks
    with closing(around.reporter):
        _check_ranks(ranks.world_size, config.micro_batches_per_step, sequence_parallel)
        engine = build_engine(
            config.engine,
            ranks,
            dtype=config.dtype,
            sequence_parallel=sequence_parallel,
            meeting=around.meeting,
        )
        with closing(engine):
            return Trainer(around, task, config, engine).run()


def _check_ranks(world_size: int, micro_batches_per_step: int, sequence_parallel: int) -> None:
    if world_size % sequence_parallel:
        raise ConfigError(
            f"{world_size} processes can't form groups of sequence_parallel={sequence_parallel}",
            hint=f"start a multiple of {sequence_parallel} processes, or lower sequence_parallel",
        )
    check_world_size(micro_batches_per_step, world_size // sequence_parallel)


@dataclass(frozen=True, slots=True)
class StepShare:
    """This rank's share of an optimizer step.

    Attributes:
        number: of the step in the whole training, from 0.
        epoch: of the plan.
        place: in the epoch.
        num_samples: of all ranks.
        micro_batches: of this rank.
    """

    number: int
    epoch: int
    place: int
    num_samples: int
    micro_batches: tuple[MicroBatch, ...]


class Trainer:
    """Trains one task on one rank.

    Args:
        around: where this rank trains.
        task: the work.
        config: of the loop.
        engine: that has met the other ranks.
    """

    def __init__(
        self, around: Surroundings, task: Task, config: TrainLoopConfig, engine: Engine
    ) -> None:
        self._around = around
        self._task = task
        self._config = config
        self._engine = engine
        engine.prepare(task.objective, config.optimizer)
        self._clock = ForwardClock(task.objective, engine.device)
        self._ema = EMA(task.objective.model, config.ema_decay) if config.ema_decay else None
        self._saved = ""
        self._save_failed = False
        self._loss = math.nan
        self._reported: dict[str, Any] = {}
        self._log = logging.getLogger(f"kinetoscope.{around.name}")

    def run(self) -> Outputs | None:
        """Train; see `fit`."""
        first = self._resume()
        report = self._around.reporter
        report.begin(first.number, self._reported)
        with closing(self._feed(first)) as feed:
            waited_since = time.monotonic()
            for share, batches in feed:
                report.waited(time.monotonic() - waited_since)
                outcome = self._step(share, batches)
                self._save_when_due(share, outcome)
                waited_since = time.monotonic()
        self._engine.barrier()
        report.finished()
        if self._around.ranks.rank != 0:
            return None
        metrics = {"train.loss": self._loss, "train.steps": float(self._config.num_steps)}
        saved = {"checkpoint": self._saved} if self._saved else {}
        return Outputs(saved, metrics, dict(saved))

    def export_state(self) -> dict[str, dict[str, Tensor]]:
        """Return all that a checkpoint holds: the engine's groups, and ``ema`` where there is one.

        Called by rank 0 alone or by all; the tensors may be the live ones.
        """
        groups = self._engine.export_state()
        if self._ema is not None:
            groups["ema"] = self._ema.export_state()
        return groups

    def _step(self, share: StepShare, batches: list[Batch]) -> StepOutcome:
        self._task.objective.step = share.number
        sums = OutcomeSum(self._task.objective.parts, self._engine.device)
        for index, batch in enumerate(batches):
            values = self._engine.forward_backward(
                batch.tensors, scale=1 / share.num_samples, last=index == len(batches) - 1
            )
            sums.add(values, batch.num_tokens)
        outcome = sums.over_ranks(
            self._engine,
            grad_norm=self._engine.clip_gradients(self._config.grad_clip),
            stop=self._around.stop(),
            compute_seconds=self._clock.take_seconds(),
        )
        if not outcome.is_finite:
            self._around.reporter.nonfinite()
            raise DivergedError(
                f"step {share.number} of {self._around.name}: loss {outcome.loss}, gradient norm "
                f"{outcome.grad_norm}; the weights are those of the step before",
                hint="lower loop.optimizer.lr, or warm up longer (loop.schedule.warmup_steps)",
            )
        lr = learning_rate(share.number, self._config)
        self._engine.step(lr)
        if self._ema is not None:
            self._ema.update()
        self._loss = outcome.loss
        self._around.reporter.stepped(share.number, outcome, lr=lr)
        return outcome

    def _feed(self, first: StepShare) -> Generator[tuple[StepShare, list[Batch]], None, None]:
        load_one = loads_for(self._engine.device, self._task.load)

        def load(share: StepShare) -> list[Batch]:
            return [load_one(share.epoch, batch) for batch in share.micro_batches]

        return prefetch(self._plan(first), load, ahead=self._config.prefetch_steps)

    def _plan(self, first: StepShare) -> Iterator[StepShare]:
        steps = self._task.plan.steps_from(first.epoch, first.place)
        for number in range(first.number, self._config.num_steps):
            epoch, place, step = next(steps)
            share = step.for_rank(self._engine.data_rank, self._engine.data_size)
            yield StepShare(number, epoch, place, step.num_samples, share)

    def _resume(self) -> StepShare:
        """Load the checkpoint that all ranks agree on; return where training goes on."""
        around = self._around
        found = agree_on_checkpoint(self._engine, around)
        if found is None:
            first, start = StepShare(0, 0, 0, 0, ()), "nothing"
        else:
            chosen, checkpoint = found
            first, start = self._load(chosen.prefix, checkpoint), chosen.digest
        told = {"a start from": start, "step": first.number}
        agree_on_start(self._engine, told, self._task.objective.model.state_dict())
        return first

    def _load(self, prefix: str, checkpoint: Checkpoint) -> StepShare:
        self._engine.import_state(checkpoint.tensors)
        if self._ema is not None:
            self._ema.import_state(checkpoint.tensors["ema"])
        state = checkpoint.state
        self._saved, self._loss = prefix, float(state.extra["loss"])
        self._reported = state.extra.get("log", {})
        self._log.info("resumed from step %d (%s)", state.step, prefix)
        return StepShare(state.step, state.epoch, state.plan_position, 0, ())

    def _save_when_due(self, share: StepShare, outcome: StepOutcome) -> None:
        done, of = share.number + 1, self._config.num_steps
        last = done == of
        regular = done % self._config.checkpoint_every_steps == 0 or self._save_failed
        checkpoints = self._around.checkpoints
        rank_0 = self._around.ranks.rank == 0
        if checkpoints is not None and rank_0 and (last or outcome.stop or regular):
            self._save_or_go_on(checkpoints, share, needed=last or outcome.stop)
        if outcome.stop and not last:
            # Ranks leave together: one that is still in a collective would see a lost peer.
            self._engine.barrier()
            if checkpoints is None or not checkpoints.stays:
                raise PreemptedError(f"told to stop after step {done} of {of}; nothing is kept")
            raise PreemptedError(f"told to stop; step {done} of {of} is saved")

    def _save_or_go_on(self, checkpoints: Checkpoints, share: StepShare, *, needed: bool) -> None:
        """Save; where the store does not answer, with the next step again, or now if it is needed.

        A rank that was told to stop is killed at the end of its grace, so it may try for ever.
        """
        patience = self._around.collective_timeout.total_seconds()
        give_up_at = time.monotonic() + _NEEDED_SAVE_SHARE * patience
        while True:
            try:
                self._save(checkpoints, share)
            except (StorageError, OSError) as error:
                if not may_pass(error) or (needed and time.monotonic() > give_up_at):
                    raise
                self._save_failed = True
                self._log.warning("step %d is not saved: %s", share.number + 1, error)
            else:
                self._save_failed = False
            if not (needed and self._save_failed):
                return
            time.sleep(1.0)

    def _save(self, checkpoints: Checkpoints, share: StepShare) -> None:
        state = CheckpointState(
            step=share.number + 1,
            epoch=share.epoch,
            plan_position=share.place + 1,
            world_size=self._around.ranks.world_size,
            engine=self._config.engine,
            threads=torch.get_num_threads(),
            scheduler=self._config.schedule.to_json(),
            extra={"loss": self._loss, "log": self._around.reporter.before_save()},
        )
        started = time.monotonic()
        saved = checkpoints.save(self.export_state(), state)
        self._around.reporter.saved(state.step, time.monotonic() - started, saved.num_bytes)
        self._saved = saved.prefix
