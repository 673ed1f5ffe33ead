"""The training of the smoke job on one rank, and what is asserted of it."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kinetoscope.core.errors import DivergedError, KinetoscopeError, PreemptedError
from kinetoscope.core.settings import given_store_uri
from kinetoscope.data.plan.batch_plan import Step
from kinetoscope.telemetry.training_metrics import StepFigures, TrainingMetrics
from kinetoscope.training.dit.config import TrainDiTConfig
from kinetoscope.training.engine.base import Engine
from kinetoscope.training.engine.choice import build_engine, check_engine
from kinetoscope.training.engine.config import EngineName
from kinetoscope.training.loop.ema import EMA
from kinetoscope.training.loop.lr_schedule import learning_rate
from kinetoscope.training.loop.outcome import OutcomeSum, StepOutcome
from kinetoscope.training.smoke.checkpoint import check_checkpoint
from kinetoscope.training.smoke.config import smoke_config
from kinetoscope.training.smoke.stop_signal import StopSignal
from kinetoscope.training.smoke.task import smoke_task

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SmokeRequest:
    """What to do.

    Attributes:
        name: of the job, in metrics and in the object store.
        engine: which engine trains.
        num_steps: optimizer steps.
        rank: this process, of ``world_size``.
        local_rank: this process on its machine.
    """

    name: str
    engine: EngineName
    num_steps: int
    rank: int
    world_size: int
    local_rank: int


def train_smoke(
    request: SmokeRequest, stop: StopSignal, metrics: TrainingMetrics
) -> dict[str, Any]:
    """Train, compare the ranks' weights, try a checkpoint; return the report of this rank.

    Raises:
        ConfigError: the environment lacks the engine.
        PreemptedError: some rank was told to stop; all ranks raise it after the same step.
        DivergedError: a loss or a gradient is not finite.
        KinetoscopeError: nothing was learned, the ranks differ or the checkpoint did not come back.
    """
    check_engine(request.engine)
    training = _Training(request, stop, metrics)
    engine = training.engine
    first = weights_digest(engine.export_state()["weights"])
    training.run()
    groups = {**engine.export_state(), "ema": training.ema.export_state()}
    digest = weights_digest(groups["weights"])
    if digest == first:
        raise KinetoscopeError(f"{request.num_steps} steps changed no weight")
    _compare_ranks(engine, digest)
    checkpoint = None
    uri = given_store_uri()
    if uri is not None and request.rank == 0:
        checkpoint = check_checkpoint(uri, request.name, groups, num_steps=request.num_steps)
        metrics.checkpoint({"write": checkpoint.pop("write_seconds")}, checkpoint["bytes"])
    engine.barrier()
    engine.close()
    return {
        "rank": request.rank,
        "world_size": request.world_size,
        "engine": request.engine,
        "device": str(engine.device),
        "steps": request.num_steps,
        "seconds_per_step": [round(seconds, 4) for seconds in training.seconds],
        "loss": training.losses,
        "weights_digest": digest,
        "shm_bytes": _shm_bytes(),
        "checkpoint": checkpoint,
        "torch": torch.__version__,
    }


class _Training:
    """The steps, as ``training.loop.trainer`` takes them."""

    def __init__(self, request: SmokeRequest, stop: StopSignal, metrics: TrainingMetrics) -> None:
        config = _config(request.world_size)
        self._num_steps = request.num_steps
        self._stop = stop
        self._metrics = metrics
        self._loop = config.loop
        self._task = smoke_task(config)
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self.engine: Engine = build_engine(
            request.engine,
            rank=request.rank,
            world_size=request.world_size,
            local_rank=request.local_rank,
            dtype=config.loop.dtype,
        )
        # From here on the other ranks count on this one.
        stop.remember()
        self.engine.prepare(self._task.objective, config.loop.optimizer)
        assert config.loop.ema_decay is not None
        self.ema = EMA(self._task.objective.model, config.loop.ema_decay)

    def run(self) -> None:
        """Take all steps, or raise ``PreemptedError`` on all ranks after the same one."""
        steps = self._task.plan.steps_from()
        for number in range(self._num_steps):
            started = time.monotonic()
            epoch, _, step = next(steps)
            outcome, norm, rate = self._step(number, epoch, step)
            seconds = time.monotonic() - started
            self.losses.append(outcome.loss)
            self.seconds.append(seconds)
            self._metrics.step(
                StepFigures(
                    seconds=seconds,
                    data_wait_seconds=0.0,
                    num_samples=outcome.num_samples,
                    num_tokens=outcome.num_tokens,
                    losses={"total": outcome.loss},
                    grad_norm=norm,
                    learning_rate=rate,
                )
            )
            self._metrics.progress((number + 1) / self._num_steps)
            _log.info("step %d of %d: loss %.6f", number + 1, self._num_steps, outcome.loss)
            if outcome.stop:
                # Ranks leave together: one still in a collective would see a lost peer.
                self.engine.barrier()
                raise PreemptedError(f"told to stop after step {number + 1} of {self._num_steps}")

    def _step(self, number: int, epoch: int, step: Step) -> tuple[StepOutcome, float, float]:
        """Return what the step came to, the gradient's norm and the learning rate."""
        self._task.objective.step = number
        share = step.for_rank(self.engine.data_rank, self.engine.data_size)
        sums = OutcomeSum(self._task.objective.parts)
        for index, micro_batch in enumerate(share):
            batch = self._task.load(epoch, micro_batch)
            values = self.engine.forward_backward(
                batch.tensors, scale=1 / step.num_samples, last=index == len(share) - 1
            )
            sums.add(values, batch.num_tokens)
        outcome = sums.over_ranks(self.engine, stop=self._stop.requested)
        norm = self.engine.clip_gradients(self._loop.grad_clip)
        if not (outcome.is_finite and math.isfinite(norm)):
            self._metrics.nonfinite()
            raise DivergedError(f"step {number}: loss {outcome.loss}, gradient norm {norm}")
        rate = learning_rate(number, self._loop)
        self.engine.step(rate)
        self.ema.update()
        return outcome, norm, rate


def weights_digest(weights: dict[str, Tensor]) -> str:
    """Return a digest of names, shapes and bits of the tensors."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{sha.hexdigest()}"


def _config(world_size: int) -> TrainDiTConfig:
    """Return the recipe's config, with a micro-batch for every rank where it has too few."""
    config = smoke_config()
    if config.loop.micro_batches_per_step % world_size == 0:
        return config
    loop = config.loop.model_copy(update={"micro_batches_per_step": world_size})
    return config.model_copy(update={"loop": loop})


def _compare_ranks(engine: Engine, digest: str) -> None:
    """Raise ``KinetoscopeError`` unless all ranks have the same weights, bit for bit.

    The digest travels as numbers of 32 bits, which float64 adds exactly: where every rank finds the
    sum to be its own number times the number of ranks, all numbers are equal.
    """
    text = digest.removeprefix("sha256:")
    own = torch.tensor([int(text[i : i + 8], 16) for i in range(0, 64, 8)], dtype=torch.float64)
    if not torch.equal(engine.sum_over_ranks(own), own * engine.data_size):
        raise KinetoscopeError(
            f"the weights of the ranks differ after training; this one has {digest}",
            hint="gradients were not summed over all ranks: look at the network between the pods",
        )


def _shm_bytes() -> int:
    shared = os.statvfs("/dev/shm")  # noqa: S108 - no file of ours
    return shared.f_blocks * shared.f_frsize
