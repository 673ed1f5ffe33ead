"""Launchers of one step, several at once, and pods that keep its ledger instead of training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tiny import kube_api
from tiny.kube_api import Request
from tiny.ledgers import begin
from tiny.living_cluster import LAUNCHED_FOR, LivingCluster, Object, Work
from tiny.steps import step_spec

from kinetoscope.core.errors import ClusterError, CorruptError, ExitCode, KinetoscopeError
from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.launching.launcher import TrainJobLauncher
from kinetoscope.steps.contract import (
    RuntimeConfig,
    StepResult,
    StepSpec,
    read_spec,
    stop_requested,
    write_spec,
)
from kinetoscope.steps.ledger.entries import Committed, Ended, LedgerState, Saved
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.nodes.sign_of_life import SignOfLife
from kinetoscope.steps.results import step_state
from kinetoscope.storage.open import open_store

STEP = "train_vae_1"
_LAUNCHING = "kinetoscope.kube.launching"
_SHORT = {
    f"{_LAUNCHING}.launcher._LONGEST_LOOK_SECONDS": 0.2,
    f"{_LAUNCHING}.launcher._LEAVING_SECONDS": 2.0,
    f"{_LAUNCHING}.own_job._LEAVING_SECONDS": 2.0,
    f"{_LAUNCHING}.others._ITS_OWN_SECONDS": 1.0,
    f"{_LAUNCHING}.teller._BEAT_SECONDS": 0.2,
    f"{_LAUNCHING}.teller._LOOK_SECONDS": 0.1,
    f"{_LAUNCHING}.logs._PAUSE_SECONDS": 0.5,
    f"{_LAUNCHING}.logs._LAST_SECONDS": 1.0,
    "kinetoscope.kube.jobs.watch._SHORTEST_SECONDS": 0.05,
    "kinetoscope.kube.jobs.objects._PAUSE_SECONDS": 0.05,
    "kinetoscope.kube.jobs.submit._PAUSE_SECONDS": 0.05,
    "kinetoscope.kube.jobs.submit.PATIENCE_SECONDS": 3.0,
    "kinetoscope.kube.patience._PAUSE_SECONDS": 0.1,
    "kinetoscope.kube.patience.PATIENCE_SECONDS": 3.0,
}


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Let launchers wait for parts of seconds where they wait for minutes."""
    for name, seconds in _SHORT.items():
        patch.setattr(name, seconds)


class Killed(SystemExit):
    """The process of a launcher is gone, with all of its threads."""


@dataclass
class StepWork:
    """Keeps the step's ledger as the supervisors of its pods do, a part with every few ticks."""

    spec: StepSpec
    num_parts: Callable[[], int]
    code: int = 0
    """With which it ends, after a part; 0: when all is done."""
    ticks: int = 0
    generation: int = 0
    told: bool = False
    life: SignOfLife | None = None

    def stop(self) -> None:
        self.told = True

    def tick(self) -> int | None:
        self.ticks += 1
        try:
            return self._tick()
        except CorruptError:
            return ExitCode.FAILED

    def _tick(self) -> int | None:
        store = open_store(self.spec.uri)
        state = step_state(self.spec.uri)
        if state.result:
            return 0
        if not self.generation:
            names = {"run_id": self.spec.run_id, "start": self.spec.start}
            self.generation = begin(store, **names)
            return None
        if self.ticks % 10 == 0 and (code := self._looked()):
            return self._ended(code)
        if self.told:
            return self._ended(ExitCode.PREEMPTED)
        if self.ticks % 6:
            return None
        done = len(state.checkpoints) + 1
        saved = Saved(prefix=f"checkpoints/{done}", manifest="", step=done)
        Ledger(store).append(lambda _: saved, self.generation)
        if self.code:
            return self._ended(self.code)
        return self._committed() if done >= self.num_parts() else None

    def _looked(self) -> int:
        if stop_requested(self.spec):
            self.told = True
            return ExitCode.WITHDRAWN
        if self.life is None:
            seconds, beside = 60 * self.spec.orphan_minutes, f"{self.spec.key}/ledger/00000001.json"
            root = open_store(self.spec.root_uri)
            self.life = SignOfLife(root, self.spec.launcher_key, beside, seconds)
        return ExitCode.WITHDRAWN if self.life.is_gone() else 0

    def _ended(self, code: int) -> int:
        ended = Ended(code=code, reason=f"code {code}", steps=1, told_to_stop=self.told)
        Ledger(open_store(self.spec.uri)).append(lambda _: ended, self.generation)
        return code

    def _committed(self) -> int:
        result = StepResult(
            step=self.spec.name,
            fingerprint=self.spec.fingerprint,
            generation=self.generation,
            artifacts={},
        )
        committed = Committed(result=result.model_dump(mode="json"))
        Ledger(open_store(self.spec.uri)).append(lambda _: committed, self.generation)
        return 0


@dataclass
class Launching:
    """A launcher at work in a thread; it can be killed."""

    spec: StepSpec
    cluster: Cluster
    pod: PodConfig
    ended: ExitCode | KinetoscopeError | BaseException | None = None
    is_killed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        request = self.cluster.api.request

        def mortal(*args: Any, **kwargs: Any) -> Any:
            if self.is_killed.is_set():
                mine = threading.current_thread() is self.thread
                raise Killed if mine else ClusterError("its process is gone")
            return request(*args, **kwargs)

        self.cluster.api.request = mortal
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def claim(self) -> str:
        """What its job is launched for."""
        return f"{self.spec.run_id}/{self.spec.start}"

    @property
    def is_at_work(self) -> bool:
        """Whether it goes on."""
        return self.ended is None

    def kill(self) -> None:
        """End it as SIGKILL does."""
        self.is_killed.set()

    def _run(self) -> None:
        launcher = TrainJobLauncher(self.cluster, self.pod, "torch_ddp")
        try:
            self.ended = launcher.launch(self.spec, write_spec(self.spec))
        except BaseException as error:
            self.ended = error


class Stage:
    """A step in a store, a cluster, and those who launch it.

    Args:
        folder: of the store, and of what else is kept.
        seed: of what happens by chance.
        num_parts: of the step.
    """

    def __init__(self, folder: Path, *, seed: int = 0, num_parts: int = 5) -> None:
        self._folder = folder
        self._root_uri = (folder / "store").as_uri()
        (folder / "store").mkdir(parents=True, exist_ok=True)
        self.num_parts = num_parts
        self.codes: dict[str, list[int]] = {}
        """Codes with which the first launches of a claim's pods end."""
        self.cluster = LivingCluster(self._make_work, seed=seed)
        self.cluster.on_change = self._check_change
        self.launchings: list[Launching] = []
        self.port = 0

    @contextmanager
    def open(self) -> Iterator[Stage]:
        """Let the cluster live for a while."""
        server = kube_api.serve(self.cluster)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        living = self.cluster.living()
        next(living)
        try:
            yield self
        finally:
            for one in self.launchings:
                one.kill()
            for one in self.launchings:
                one.thread.join(10)
            next(living, None)
            server.shutdown()
            server.server_close()
            thread.join()

    @property
    def state(self) -> LedgerState:
        """What the step's ledger comes to."""
        return step_state(self.spec("raaaaaaa", 1).uri)

    def spec(self, run_id: str, start: int, **changes: Any) -> StepSpec:
        """Return what a start of a run asks of the step."""
        keys = f"runs/{run_id}/starts/{start:06d}"
        values = {
            "run_id": run_id,
            "start": start,
            "stop_key": f"{keys}/stop.json",
            "launcher_key": f"{keys}/launchers/{STEP}.json",
            "orphan_minutes": 3 / 60,
            "runtime": RuntimeConfig(num_nodes=2, grace_seconds=1),
        }
        return step_spec(STEP, "x", self._root_uri, {}, **values | changes)

    def launch(
        self, run_id: str = "raaaaaaa", start: int = 1, *, gang_minutes: float = 0
    ) -> Launching:
        """Start a launcher of a start of a run."""
        number = len(self.launchings)
        folder = self._folder / f"launcher-{number}"
        folder.mkdir()
        cluster = kube_api.connect_to(self.port, folder, f"launcher-{number}")
        pod = PodConfig(gpus=0, gang_minutes=gang_minutes)
        launching = Launching(self.spec(run_id, start), cluster, pod)
        self.launchings.append(launching)
        return launching

    def stop(self, start: int, run_id: str = "raaaaaaa") -> None:
        """Ask a start of a run to stop."""
        open_store(self._root_uri).put_bytes(self.spec(run_id, start).stop_key, b"{}")

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
        """Wait until something has happened."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}: {self.told()}"
            time.sleep(0.02)

    def wait_for_end(self, *launchings: Launching, seconds: float = 60) -> None:
        """Wait until launchers have ended."""
        which: Iterable[Launching] = launchings or self.launchings
        self.wait_for(lambda: not any(one.is_at_work for one in which), "their end", seconds)

    def told(self) -> str:
        """Return all that is known."""
        ends = [(one.claim, repr(one.ended)) for one in self.launchings]
        jobs = [job["metadata"] | job["spec"] for job in self.cluster.train_jobs()]
        pods = [(one.uid, one.code, one.stopping) for one in self.cluster.sets]
        return f"{ends} {jobs} {pods} {self.cluster.made} {self.cluster.wrongs} {self.state}"

    def _make_work(self, job: Object) -> Work:
        claim = (job["metadata"].get("annotations") or {}).get(LAUNCHED_FOR, "")
        spec_uri = job["spec"]["trainer"]["command"][-1]
        codes = self.codes.get(claim) or [0]
        code = codes.pop(0)
        return StepWork(read_spec(spec_uri), lambda: self.num_parts, code)

    def _check_change(self, request: Request, job: Object, is_deleted: bool) -> None:
        """Note a change of a job by somebody else than those who want it."""
        metadata = job["metadata"]
        claim = (metadata.get("annotations") or {}).get(LAUNCHED_FOR, "")
        by = next((x for x in self.launchings if _token(x) in request.who), None)
        over = (job.get("status") or {}).get("conditions")
        if by is None or by.claim == claim or over or self.state.result:
            return
        wanted = [one for one in self.launchings if one.claim == claim and self._wants(one)]
        if wanted:
            what = "deleted" if is_deleted else "suspended"
            self.cluster.wrongs.append(f"{by.claim} {what} {metadata['uid']} of {claim}")

    def _wants(self, one: Launching) -> bool:
        if not one.is_at_work or one.is_killed.is_set() or stop_requested(one.spec):
            return False
        later = [x for x in self.launchings if x.spec.run_id == one.spec.run_id]
        return one.spec.start == max(x.spec.start for x in later)


def _token(launching: Launching) -> str:
    return str(launching.cluster.api.configuration.api_key["authorization"])
