"""Where trainings are disturbed, and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tiny.clips import write_committed_clips
from tiny.job import Job
from tiny.training import lost, training_spec

from kinetoscope.steps.contract import RuntimeConfig, StepSpec

# Small enough for two cores: a start takes far longer than the steps.
PLAN = {"num_frames": 1, "height": 16, "width": 16, "batch_size": 1}
LOOP: dict[str, Any] = {
    "num_steps": 60,
    "micro_batches_per_step": 4,
    "checkpoint_every_steps": 10,
    "log_every_steps": 1,
}


class Stage:
    """Clips, and a store in a directory. The environment names a workspace beside it.

    Args:
        folder: for all of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._clips_uri = write_committed_clips(folder)
        self._undisturbed: dict[str, StepSpec] = {}

    def spec(self, name: str, runtime: RuntimeConfig, **loop: object) -> StepSpec:
        """Return a training; those of one shape, but for their names, have the same result."""
        spec = training_spec(self._clips_uri, name, runtime, **LOOP | loop)
        return spec.model_copy(update={"config": spec.config | {"plan": PLAN}})

    @contextmanager
    def job(
        self, name: str, num_ranks: int = 1, *, num_steps: int = LOOP["num_steps"], **runtime: Any
    ) -> Iterator[Job]:
        """Give a training of so many ranks on each node, whose processes are gone afterwards."""
        job = Job(self.spec(name, shape(num_ranks, **runtime), num_steps=num_steps))
        try:
            yield job
        finally:
            job.close()

    def undisturbed(self, spec: StepSpec) -> StepSpec:
        """Return a training of the same shape that nothing has happened to."""
        runtime, steps = spec.runtime, spec.config["loop"]["num_steps"]
        name = f"undisturbed-{runtime.num_nodes}-{runtime.num_processes}-{steps}"
        if name not in self._undisturbed:
            changes = {"fingerprint": name, "root_uri": (self.folder / "objects").as_uri()}
            own = spec.model_copy(update=changes)
            assert not any(Job(own).finish())
            self._undisturbed[name] = own
        return self._undisturbed[name]

    def finish(self, job: Job, seconds: float = 300) -> list[str]:
        """Start a disturbed training again, to its end; return what is lost of it."""
        return self.end(job, job.finish(seconds))

    def end(self, job: Job, codes: list[int]) -> list[str]:
        """Return what is lost of a training that ended with these codes."""
        if any(codes):
            return [f"it ended with {codes}"]
        return lost(job.spec, self.undisturbed(job.spec))


def shape(num_ranks: int, **changes: Any) -> RuntimeConfig:
    """Return how to run so many ranks on each node, without a second try."""
    values: dict[str, Any] = {"threads_per_process": 1, "max_restarts": 0} | changes
    return RuntimeConfig(num_processes=num_ranks, **values)
