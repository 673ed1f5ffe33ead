"""The training loop of all models."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from torch import Tensor

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.core.errors import ConfigError, DivergedError, PreemptedError
from kinetoscope.data.plan.batch_plan import MicroBatch, check_world_size
from kinetoscope.steps.worker import Outputs
from kinetoscope.training.engine.base import Engine
from kinetoscope.training.engine.choice import build_engine
from kinetoscope.training.loop.checkpoints import Checkpoints
from kinetoscope.training.loop.clock import ForwardClock
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.loop.ema import EMA
from kinetoscope.training.loop.lr_schedule import learning_rate
from kinetoscope.training.loop.outcome import OutcomeSum, StepOutcome
from kinetoscope.training.loop.prefetch import prefetch
from kinetoscope.training.loop.surroundings import Surroundings
from kinetoscope.training.loop.task import Batch, Task


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
    """
    ranks = around.ranks
    with closing(around.reporter):
        _check_ranks(ranks.world_size, config.micro_batches_per_step, sequence_parallel)
        engine = build_engine(
            config.engine,
            rank=ranks.rank,
            world_size=ranks.world_size,
            local_rank=ranks.own_local_rank,
            dtype=config.dtype,
            sequence_parallel=sequence_parallel,
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
        self._loss = math.nan

    def run(self) -> Outputs | None:
        """Train; see `fit`."""
        first = self._resume()
        report = self._around.reporter
        report.begin(first.number)
        with closing(self._feed(first)) as feed:
            waited_since = time.monotonic()
            for share, batches in feed:
                report.waited(time.monotonic() - waited_since)
                outcome = self._step(share, batches)
                self._save_when_due(share, outcome)
                waited_since = time.monotonic()
        self._engine.barrier()
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
        sums = OutcomeSum(self._task.objective.parts)
        for index, batch in enumerate(batches):
            values = self._engine.forward_backward(
                batch.tensors, scale=1 / share.num_samples, last=index == len(batches) - 1
            )
            sums.add(values, batch.num_tokens)
        outcome = sums.over_ranks(
            self._engine,
            stop=self._around.stop(),
            compute_seconds=self._clock.take_seconds(),
        )
        grad_norm = self._engine.clip_gradients(self._config.grad_clip)
        if not (outcome.is_finite and math.isfinite(grad_norm)):
            self._around.reporter.nonfinite()
            raise DivergedError(
                f"step {share.number} of {self._around.name}: loss {outcome.loss}, gradient norm "
                f"{grad_norm}; the weights are those of the step before",
                hint="lower loop.optimizer.lr, or warm up longer (loop.schedule.warmup_steps)",
            )
        lr = learning_rate(share.number, self._config)
        self._engine.step(lr)
        if self._ema is not None:
            self._ema.update()
        self._loss = outcome.loss
        self._around.reporter.stepped(share.number, outcome, grad_norm=grad_norm, lr=lr)
        return outcome

    def _feed(self, first: StepShare) -> Generator[tuple[StepShare, list[Batch]], None, None]:
        def load(share: StepShare) -> list[Batch]:
            return [self._task.load(share.epoch, batch) for batch in share.micro_batches]

        return prefetch(self._plan(first), load, ahead=self._config.prefetch_steps)

    def _plan(self, first: StepShare) -> Iterator[StepShare]:
        steps = self._task.plan.steps_from(first.epoch, first.place)
        for number in range(first.number, self._config.num_steps):
            epoch, place, step = next(steps)
            share = step.for_rank(self._engine.data_rank, self._engine.data_size)
            yield StepShare(number, epoch, place, step.num_samples, share)

    def _resume(self) -> StepShare:
        """Load the latest checkpoint; return where training goes on."""
        found = self._around.checkpoints.latest() if self._around.checkpoints else None
        if found is None:
            return StepShare(0, 0, 0, 0, ())
        prefix, checkpoint = found
        self._engine.import_state(checkpoint.tensors)
        if self._ema is not None:
            self._ema.import_state(checkpoint.tensors["ema"])
        state = checkpoint.state
        self._saved, self._loss = prefix, float(state.extra["loss"])
        log = logging.getLogger(f"kinetoscope.{self._around.name}")
        log.info("resumed from step %d (%s)", state.step, prefix)
        return StepShare(state.step, state.epoch, state.plan_position, 0, ())

    def _save_when_due(self, share: StepShare, outcome: StepOutcome) -> None:
        done, of = share.number + 1, self._config.num_steps
        last = done == of
        due = last or outcome.stop or done % self._config.checkpoint_every_steps == 0
        checkpoints = self._around.checkpoints
        if due and checkpoints is not None and self._around.ranks.rank == 0:
            self._save(checkpoints, share)
        if outcome.stop and not last:
            # Ranks leave together: one that is still in a collective would see a lost peer.
            self._engine.barrier()
            if checkpoints is None or not checkpoints.stays:
                raise PreemptedError(f"told to stop after step {done} of {of}; nothing is kept")
            raise PreemptedError(f"told to stop; step {done} of {of} is saved")

    def _save(self, checkpoints: Checkpoints, share: StepShare) -> None:
        state = CheckpointState(
            step=share.number + 1,
            epoch=share.epoch,
            plan_position=share.place + 1,
            scheduler=self._config.schedule.to_json(),
            extra={"loss": self._loss},
        )
        started = time.monotonic()
        saved = checkpoints.save(self.export_state(), state)
        self._around.reporter.saved(time.monotonic() - started, saved.num_bytes)
        self._saved = saved.prefix
