"""One rank of the smoke job: trained by the trainer of all stages, then put to the proof."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import torch

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.core.machine_limits import shared_memory
from kinetoscope.core.settings import given_store_uri
from kinetoscope.steps.rank_environment import RankEnvironment
from kinetoscope.telemetry.training_metrics import TrainingMetrics
from kinetoscope.training.dit.config import TrainDiTConfig
from kinetoscope.training.engine.base import Engine
from kinetoscope.training.engine.choice import build_engine, check_engine
from kinetoscope.training.engine.config import EngineName
from kinetoscope.training.loop.agreement import weights_digest
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.loop.log import StepLog
from kinetoscope.training.loop.surroundings import Surroundings
from kinetoscope.training.loop.trainer import Trainer
from kinetoscope.training.smoke.config import smoke_config
from kinetoscope.training.smoke.outlet import SmokeOutlet
from kinetoscope.training.smoke.proof import (
    PassingCheckpoints,
    check_checkpoint,
    compare_ranks,
    passing_checkpoints,
)
from kinetoscope.training.smoke.stop_signal import StopSignal
from kinetoscope.training.smoke.task import smoke_task


@dataclass(frozen=True, slots=True)
class SmokeRequest:
    """What to do.

    Attributes:
        name: of the job, in metrics and in the object store.
        engine: which engine trains.
        num_steps: optimizer steps.
    """

    name: str
    engine: EngineName
    num_steps: int


@dataclass(frozen=True, slots=True)
class _Proof:
    """What is shown: the digest of equal weights, and what a checkpoint went through, if any."""

    weights_digest: str
    checkpoint: dict[str, Any] | None


def train_rank(
    request: SmokeRequest, ranks: RankEnvironment, stop: StopSignal, metrics: TrainingMetrics
) -> dict[str, Any]:
    """Train, compare the ranks' weights, read the checkpoint back; return the report of this rank.

    Args:
        request: what to do.
        ranks: which rank this is.
        stop: SIGTERM, noticed.
        metrics: of this rank; they outlive the training.

    Raises:
        ConfigError: the environment lacks the engine.
        PreemptedError: some rank was told to stop; all ranks raise it after the same step.
        DivergedError: a loss or a gradient is not finite.
        KinetoscopeError: nothing was learned, the ranks differ or the checkpoint did not come back.
    """
    check_engine(request.engine)
    config = _config(request, ranks.world_size)
    outlet = SmokeOutlet(ranks.rank)
    with ExitStack() as stack:
        checkpoints = None
        if uri := given_store_uri():
            passing = passing_checkpoints(uri, request.name, delete=ranks.rank == 0)
            checkpoints = stack.enter_context(passing)
        around = Surroundings(
            name=request.name,
            ranks=ranks,
            checkpoints=checkpoints,
            reporter=StepLog(config.loop, ranks, metrics, outlet, stop=lambda: stop.requested),
            stop=lambda: stop.requested,
            known={"engine": request.engine, "steps": str(request.num_steps)},
        )
        engine = stack.enter_context(closing(_meet(around, config.loop)))
        # From here on the other ranks count on this one.
        stop.remember()
        trainer = Trainer(around, smoke_task(config), config.loop, engine)
        proof = _train_and_prove(trainer, engine, checkpoints, num_steps=request.num_steps)
    return _report(request, ranks, outlet, proof) | {"device": str(engine.device)}


def _config(request: SmokeRequest, world_size: int) -> TrainDiTConfig:
    """Return the recipe's config, with a micro-batch for every rank where it has too few."""
    config = smoke_config()
    changes: dict[str, Any] = {
        "engine": request.engine,
        "num_steps": request.num_steps,
        "checkpoint_every_steps": request.num_steps,
        "log_every_steps": 1,
    }
    if config.loop.micro_batches_per_step % world_size:
        changes["micro_batches_per_step"] = world_size
    return config.model_copy(update={"loop": config.loop.model_copy(update=changes)})


def _meet(around: Surroundings, loop: TrainLoopConfig) -> Engine:
    return build_engine(loop.engine, around.ranks, dtype=loop.dtype, meeting=around.meeting)


def _train_and_prove(
    trainer: Trainer, engine: Engine, checkpoints: PassingCheckpoints | None, *, num_steps: int
) -> _Proof:
    first = weights_digest(engine.export_state()["weights"])
    outputs = trainer.run()
    groups = trainer.export_state()
    digest = weights_digest(groups["weights"])
    if digest == first:
        raise KinetoscopeError(f"{num_steps} steps changed no weight")
    compare_ranks(engine, digest)
    checkpoint = None
    if checkpoints is not None and outputs is not None:
        prefix = outputs.artifacts["checkpoint"]
        size = check_checkpoint(checkpoints.store, prefix, groups, num_steps=num_steps)
        # Deletion comes last, and ends the job when it fails: a report tells of what was deleted.
        checkpoint = {"written": True, "read": True, "deleted": True, "bytes": size}
    engine.barrier()
    return _Proof(digest, checkpoint)


def _report(
    request: SmokeRequest, ranks: RankEnvironment, outlet: SmokeOutlet, proof: _Proof
) -> dict[str, Any]:
    shared = shared_memory()
    return {
        "rank": ranks.rank,
        "world_size": ranks.world_size,
        "engine": request.engine,
        "steps": request.num_steps,
        "seconds_per_step": [round(row["train.step_seconds"], 4) for row in outlet.rows],
        "loss": [row["train.loss"] for row in outlet.rows],
        "weights_digest": proof.weights_digest,
        "shm_bytes": shared.total if shared else 0,
        "checkpoint": proof.checkpoint,
        "torch": torch.__version__,
        "metrics_url": outlet.metrics_url,
    }
