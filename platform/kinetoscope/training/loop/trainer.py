"""The training loop of all models."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.checkpoints.read import read_checkpoint
from kinetoscope.checkpoints.retention import latest_checkpoint, prune
from kinetoscope.checkpoints.write import write_checkpoint
from kinetoscope.core.errors import ConfigError, DivergedError, PreemptedError
from kinetoscope.core.hashing import digest_json
from kinetoscope.data.plan.batch_plan import MicroBatch, check_world_size
from kinetoscope.steps.worker import Outputs, StepContext
from kinetoscope.training.engine.base import Engine
from kinetoscope.training.engine.choice import build_engine
from kinetoscope.training.loop.clock import ForwardClock
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.loop.ema import EMA
from kinetoscope.training.loop.log import StepLog
from kinetoscope.training.loop.lr_schedule import learning_rate
from kinetoscope.training.loop.outcome import OutcomeSum, StepOutcome
from kinetoscope.training.loop.prefetch import prefetch
from kinetoscope.training.loop.task import Batch, Task


def fit(
    ctx: StepContext, task: Task, config: TrainLoopConfig, *, sequence_parallel: int = 1
) -> Outputs | None:
    """Train a task to its last step, from its latest checkpoint if it has one.

    Args:
        ctx: of the training step.
        task: its work.
        config: of the loop.
        sequence_parallel: ranks that share the patches of a sample; STDiT only.

    Returns:
        On rank 0 the outputs, with the artifact ``checkpoint``; None on the others.

    Raises:
        ConfigError: the number of ranks can't share a step, or the environment lacks the engine.
        PreemptedError: told to stop; the step in progress was finished and saved.
        DivergedError: the loss or its gradient is not finite; nothing of that step is kept.
    """
    _check_ranks(ctx.world_size, config.micro_batches_per_step, sequence_parallel)
    engine = build_engine(
        config.engine,
        rank=ctx.rank,
        world_size=ctx.world_size,
        local_rank=ctx.local_rank,
        dtype=config.dtype,
        sequence_parallel=sequence_parallel,
    )
    try:
        return Trainer(ctx, task, config, engine).run()
    finally:
        engine.close()


def _check_ranks(world_size: int, micro_batches_per_step: int, sequence_parallel: int) -> None:
    if world_size % sequence_parallel:
        raise ConfigError(
            f"{world_size} processes can't form groups of sequence_parallel={sequence_parallel}",
            hint=f"start a multiple of {sequence_parallel} processes, or lower sequence_parallel",
        )
    check_world_size(micro_batches_per_step, world_size // sequence_parallel)


@dataclass(frozen=True, slots=True)
class PlannedStep:
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
    """Trains one task on one rank."""

    def __init__(
        self, ctx: StepContext, task: Task, config: TrainLoopConfig, engine: Engine
    ) -> None:
        self._ctx = ctx
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
        with (
            closing(StepLog(self._ctx, self._config, first_step=first.number)) as log,
            closing(self._feed(first)) as feed,
        ):
            waited_since = time.monotonic()
            for planned, batches in feed:
                log.waited(time.monotonic() - waited_since)
                outcome = self._step(planned, batches, log)
                self._save_when_due(planned, outcome, log)
                waited_since = time.monotonic()
        self._engine.barrier()
        if self._ctx.rank != 0:
            return None
        metrics = {"train.loss": self._loss, "train.steps": float(self._config.num_steps)}
        return Outputs({"checkpoint": self._saved}, metrics, {"checkpoint": self._saved})

    def _step(self, planned: PlannedStep, batches: list[Batch], log: StepLog) -> StepOutcome:
        self._task.objective.step = planned.number
        sums = OutcomeSum(self._task.objective.parts)
        for index, batch in enumerate(batches):
            values = self._engine.forward_backward(
                batch.tensors, scale=1 / planned.num_samples, last=index == len(batches) - 1
            )
            sums.add(values, batch.num_tokens)
        outcome = sums.over_ranks(
            self._engine,
            stop=self._ctx.stop_requested,
            compute_seconds=self._clock.take_seconds(),
        )
        grad_norm = self._engine.clip_gradients(self._config.grad_clip)
        if not (outcome.is_finite and math.isfinite(grad_norm)):
            log.nonfinite()
            raise DivergedError(
                f"step {planned.number} of {self._ctx.name}: loss {outcome.loss}, gradient norm "
                f"{grad_norm}; the weights are those of the step before",
                hint="lower loop.optimizer.lr, or warm up longer (loop.schedule.warmup_steps)",
            )
        lr = learning_rate(planned.number, self._config)
        self._engine.step(lr)
        if self._ema is not None:
            self._ema.update()
        self._loss = outcome.loss
        log.stepped(planned.number, outcome, grad_norm=grad_norm, lr=lr)
        return outcome

    def _feed(self, first: PlannedStep) -> Generator[tuple[PlannedStep, list[Batch]], None, None]:
        def load(planned: PlannedStep) -> list[Batch]:
            return [self._task.load(planned.epoch, batch) for batch in planned.micro_batches]

        return prefetch(self._plan(first), load, ahead=self._config.prefetch_steps)

    def _plan(self, first: PlannedStep) -> Iterator[PlannedStep]:
        steps = self._task.plan.steps_from(first.epoch, first.place)
        for number in range(first.number, self._config.num_steps):
            epoch, place, step = next(steps)
            share = step.for_rank(self._engine.data_rank, self._engine.data_size)
            yield PlannedStep(number, epoch, place, step.num_samples, share)

    def _resume(self) -> PlannedStep:
        """Load the latest checkpoint; return where training goes on."""
        prefix = latest_checkpoint(self._ctx.store)
        if prefix is None:
            return PlannedStep(0, 0, 0, 0, ())
        checkpoint = read_checkpoint(self._ctx.store, prefix)
        self._engine.import_state(checkpoint.tensors)
        if self._ema is not None:
            self._ema.import_state(checkpoint.tensors["ema"])
        state = checkpoint.state
        self._saved, self._loss = prefix, float(state.extra["loss"])
        self._ctx.log.info("resumed from step %d (%s)", state.step, prefix)
        return PlannedStep(state.step, state.epoch, state.plan_position, 0, ())

    def _save_when_due(self, planned: PlannedStep, outcome: StepOutcome, log: StepLog) -> None:
        done = planned.number + 1
        last = done == self._config.num_steps
        due = last or outcome.stop or done % self._config.checkpoint_every_steps == 0
        if due and self._ctx.rank == 0:
            started = time.monotonic()
            self._save(planned)
            seconds = time.monotonic() - started
            files = self._ctx.store.list(self._saved)
            log.saved(seconds, sum(file.size_bytes for file in files))
        if outcome.stop and not last:
            # Ranks leave together: one that is still in a collective would see a lost peer.
            self._engine.barrier()
            raise PreemptedError(f"told to stop; step {done} of {self._config.num_steps} is saved")

    def _save(self, planned: PlannedStep) -> None:
        groups = self._engine.export_state()
        if self._ema is not None:
            groups["ema"] = self._ema.export_state()
        state = CheckpointState(
            step=planned.number + 1,
            epoch=planned.epoch,
            plan_position=planned.place + 1,
            scheduler=self._config.schedule.to_json(),
            config_hash=digest_json(self._ctx.config),
            lineage={name: result.digest for name, result in self._ctx.inputs.items()},
            extra={"loss": self._loss},
        )
        self._saved = write_checkpoint(
            self._ctx.store,
            generation=self._ctx.generation,
            tensors=groups,
            state=state,
            check_fence=self._ctx.superseded_check,
            scratch=self._ctx.scratch,
        )
        prune(self._ctx.store, keep_last=self._config.keep_checkpoints)
