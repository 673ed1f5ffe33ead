"""What a trainer is given by whoever runs it: a step of a run, or the smoke job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from kinetoscope import __version__
from kinetoscope.core.hashing import digest_json
from kinetoscope.core.settings import launch_id
from kinetoscope.steps.contract import step_identity
from kinetoscope.steps.rank_environment import RankEnvironment
from kinetoscope.steps.worker import StepContext
from kinetoscope.telemetry.training_metrics import TrainingMetrics
from kinetoscope.training.engine.rendezvous import DEFAULT_TIMEOUT, Meeting
from kinetoscope.training.loop.checkpoints import Checkpoints, StoreCheckpoints
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.loop.log import StepLog
from kinetoscope.training.loop.reporter import Reporter


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where one rank trains.

    Attributes:
        name: of the work, in messages.
        ranks: which rank this is, of how many.
        checkpoints: what training goes on from and saves to; None: nothing is saved.
        reporter: hears of every step.
        stop: tells whether this rank was told to stop.
    """

    name: str
    ranks: RankEnvironment
    checkpoints: Checkpoints | None
    reporter: Reporter
    stop: Callable[[], bool]
    known: Mapping[str, str] = field(default_factory=dict)
    """What this rank knows of the work without the others, who must know the same."""
    generation: int = 0
    """Number of the attempt, where this rank knows it; rank 0 does."""
    join: Callable[[int], None] = lambda generation: None  # noqa: ARG005
    """Hears which attempt this rank takes part in."""
    collective_timeout: timedelta = DEFAULT_TIMEOUT
    """How long ranks that train wait for one that does not come."""
    waiting: Callable[[], None] = lambda: None
    """Called again and again while this rank waits for the others to be there."""

    @property
    def meeting(self) -> Meeting:
        """How this rank meets the others."""
        return Meeting(launch_id(), self.known, self.stop, self.collective_timeout, self.waiting)


def surroundings_of(ctx: StepContext, config: TrainLoopConfig) -> Surroundings:
    """Return those of a step: its checkpoints, its metrics, its supervisor's word to stop.

    Args:
        ctx: of the step.
        config: of its loop.
    """

    def stop() -> bool:
        return ctx.stop_requested

    metrics = TrainingMetrics(ctx.run_id, ctx.name)
    return Surroundings(
        name=ctx.name,
        ranks=ctx.ranks,
        checkpoints=StoreCheckpoints.of_step(ctx, keep=config.keep_checkpoints),
        reporter=StepLog(config, ctx.ranks, metrics, ctx, stop=stop),
        stop=stop,
        known={
            "step": step_identity(ctx.name, ctx.fingerprint),
            "number of ranks": str(ctx.world_size),
            "config": digest_json(ctx.config),
            "version": __version__,
        },
        generation=ctx.generation,
        join=ctx.join,
        collective_timeout=timedelta(minutes=ctx.runtime.collective_timeout_minutes),
        waiting=ctx.waiting,
    )
