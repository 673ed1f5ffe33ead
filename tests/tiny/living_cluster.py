"""An API server that keeps objects, and controllers that make pods of training jobs as Kubeflow
Trainer and JobSet do; what pods do, the test says.

Seen on Kubernetes 1.34, Trainer 2.3 and JobSet 0.12: a job's runtime must be there for each change
of the job; suspended and deleted jobs' pods get their grace; a job that is deleted leaves a copy of
its runtime for a moment; a restart makes all pods anew, and takes failed ones away.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from tiny.kube_api import (
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    PODS,
    RUNTIMES,
    TRAIN_JOBS,
    Answer,
    Api,
    Request,
    container,
    make_template,
    status,
)

LAUNCHED_FOR = "kinetoscope.dev/launched-for"
_MAX_RESTARTS = 1
_FREE = (75, 78)
_NEVER = (2, 77, 79)
_TICK_SECONDS = 0.01

Object = dict[str, Any]


class Work(Protocol):
    """What all pods of a job do together, from a launch of theirs to its end."""

    def tick(self) -> int | None:
        """Go on a little; return the exit code when it ends."""

    def stop(self) -> None:
        """Take a SIGTERM."""


@dataclass
class PodSet:
    """The pods of one launch of a job."""

    job: Object
    restart: int
    work: Work
    grace_ticks: int
    stopping: bool = False
    code: int | None = None
    left_ticks: int = 0

    @property
    def uid(self) -> str:
        """Of the TrainJob."""
        return str(self.job["metadata"]["uid"])


@dataclass
class Faults:
    """What goes wrong, by chance or until it is taken back."""

    chance: random.Random
    lost: float = 0.0
    """Of all answers; what was asked is done."""
    away: bool = False
    forbidden: bool = False
    unschedulable: bool = False
    """The second pod finds no place."""
    slow_seconds: float = 0.0
    broken: tuple[str, ...] = ()
    """Methods that are refused."""


@dataclass
class LivingCluster(Api):
    """A namespace ``runs`` that lives while `living` does.

    Args:
        make_work: returns what the pods of a TrainJob do, given that.
        num_nodes: pods of each job.
        seed: of what happens by chance.
    """

    make_work: Callable[[Object], Work]
    num_nodes: int = 2
    seed: int = 0
    grace_ticks: tuple[int, int] = (3, 30)
    """Of pods that were told to stop, from and up to."""
    wrongs: list[str] = field(default_factory=list)
    """What must never have happened, and did."""
    on_change: Callable[[Request, Object, bool], None] = lambda *_: None
    """Told of each suspension and deletion of a TrainJob that is about to be done."""

    def __post_init__(self) -> None:
        super().__init__()
        self.faults = Faults(random.Random(self.seed))  # noqa: S311
        self.objects: dict[str, Object] = {}
        self.sets: list[PodSet] = []
        self.restarts: dict[str, int] = {}
        self.made: list[tuple[str, str]] = []
        """(who it is for, UID) of all TrainJobs."""
        self.launches: list[str] = []
        """UIDs of TrainJobs, once for each time that their pods were made."""
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self.has(f"{CONFIG_MAPS}/kinetoscope-templates", make_template())

    def living(self) -> Iterator[None]:
        """Run the controllers until this is closed."""
        thread = threading.Thread(target=self._control, daemon=True)
        thread.start()
        yield
        self._stop.set()
        thread.join()

    def answer(self, request: Request) -> Answer | None:
        """Answer as an API server whose objects these are."""
        time.sleep(self.faults.slow_seconds * self.faults.chance.random())
        if self.faults.away:
            return status(503, "ServiceUnavailable", "etcd is away")
        if self.faults.forbidden or request.method in self.faults.broken:
            return status(403, "Forbidden", 'is forbidden: User "x" cannot do this (yet)')
        with self._lock:
            answer = self._do(request)
        lost = self.faults.chance.random() < self.faults.lost
        return None if lost else answer

    def train_jobs(self) -> list[Object]:
        """Return the TrainJobs."""
        return self._below(TRAIN_JOBS)

    def runtimes(self) -> list[Object]:
        """Return the TrainingRuntimes."""
        return self._below(RUNTIMES)

    def patch(self, path: str, change: Object) -> Answer:
        """Change an object as somebody does who is no launcher."""
        with self._lock:
            return self._patch(Request("PATCH", path, "", None, json.dumps(change), "admin"))

    def remove(self, path: str, *, in_foreground: bool = False) -> None:
        """Delete an object as somebody does who is no launcher.

        Args:
            path: of the object.
            in_foreground: it stays until its pods have left.
        """
        with self._lock:
            if in_foreground and path in self.objects:
                metadata = self.objects[path]["metadata"]
                metadata["deletionTimestamp"] = metadata["creationTimestamp"]
                self._touch(self.objects[path])
                return
            self._delete(Request("DELETE", path, "", None, "{}", "admin"))

    def _do(self, request: Request) -> Answer:
        change = {"POST": self._create, "PATCH": self._patch, "DELETE": self._delete}
        if request.method in change:
            return change[request.method](request)
        return (200, {}) if "watch=True" in request.query else self._get(request)

    def _get(self, request: Request) -> Answer:
        if request.path in (TRAIN_JOBS, RUNTIMES):
            return 200, {"metadata": {"resourceVersion": "1"}, "items": self._below(request.path)}
        if request.path == PODS:
            return 200, {"metadata": {"resourceVersion": "1"}, "items": self._pods()}
        if request.path in (EVENTS, JOBS):
            return 200, {"metadata": {"resourceVersion": "1"}, "items": []}
        if request.path in self.objects:
            return 200, copy.deepcopy(self.objects[request.path])
        given = self.answers.get((request.method, request.path))
        return given() if given else status(404, "NotFound", f"{request.path} not found")

    def _create(self, request: Request) -> Answer:
        made: Object = json.loads(request.body)
        path = f"{request.path}/{made['metadata']['name']}"
        if path in self.objects:
            return status(409, "AlreadyExists", f"{path} already exists")
        if request.path == TRAIN_JOBS and not self._has_runtime(made):
            return status(403, "Forbidden", "it must be created before the TrainJob is created")
        number = next(self._numbers)
        now = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        own = {"uid": f"u{number}", "resourceVersion": str(number), "creationTimestamp": now}
        made["metadata"] |= own
        self.objects[path] = made
        if request.path == TRAIN_JOBS:
            self._check_runtime(made)
            launched_for = (made["metadata"].get("annotations") or {}).get(LAUNCHED_FOR, "")
            self.made.append((launched_for, made["metadata"]["uid"]))
        return 201, copy.deepcopy(made)

    def _patch(self, request: Request) -> Answer:
        found = self.objects.get(request.path)
        if found is None:
            return status(404, "NotFound", f"{request.path} not found")
        change: Object = json.loads(request.body)
        if self._differs(found, change.get("metadata") or {}):
            return status(409, "Conflict", "it is another one")
        is_job = request.path.startswith(TRAIN_JOBS)
        if is_job and not self._has_runtime(found):
            self.wrongs.append(f"{request.path} has lost its runtime")
            return status(400, "BadRequest", "its runtime is gone")
        if is_job and (change.get("spec") or {}).get("suspend"):
            self.on_change(request, found, False)
        _merge(found, change)
        self._touch(found)
        return 200, copy.deepcopy(found)

    def _delete(self, request: Request) -> Answer:
        found = self.objects.get(request.path)
        if found is None:
            return status(404, "NotFound", f"{request.path} not found")
        wanted = json.loads(request.body or "{}").get("preconditions") or {}
        if self._differs(found, wanted):
            return status(409, "Conflict", "it is another one")
        if request.path.startswith(TRAIN_JOBS):
            self.on_change(request, found, True)
        for job in self._below(TRAIN_JOBS):
            if request.path == _runtime_of(job) and not (job.get("status") or {}):
                self.wrongs.append(f"{request.who} deleted {request.path} under a job")
        del self.objects[request.path]
        return 200, {}

    def _has_runtime(self, job: Object) -> bool:
        return _runtime_of(job) in self.objects

    def _check_runtime(self, job: Object) -> None:
        runtime = self.objects[_runtime_of(job)]["metadata"]["annotations"]
        if runtime.get(LAUNCHED_FOR) != job["metadata"]["annotations"].get(LAUNCHED_FOR):
            self.wrongs.append(f"a job of {job['metadata']} has the runtime of {runtime}")

    @staticmethod
    def _differs(found: Object, wanted: Object) -> bool:
        keys = ("uid", "resourceVersion")
        return any(key in wanted and wanted[key] != found["metadata"][key] for key in keys)

    def _touch(self, value: Object) -> None:
        value["metadata"]["resourceVersion"] = str(next(self._numbers))

    def _below(self, path: str) -> list[Object]:
        with self._lock:
            found = [value for key, value in self.objects.items() if key.startswith(f"{path}/")]
            return copy.deepcopy(found)

    def _control(self) -> None:
        while not self._stop.wait(_TICK_SECONDS):
            with self._lock:
                for one in list(self.sets):
                    self._tick(one)
                for path in [key for key in self.objects if key.startswith(f"{TRAIN_JOBS}/")]:
                    self._reconcile(self.objects[path])
                self._collect()

    def _tick(self, one: PodSet) -> None:
        live = self.objects.get(f"{TRAIN_JOBS}/{one.job['metadata']['name']}")
        is_there = live is not None and live["metadata"]["uid"] == one.uid
        must_go = not is_there or _must_go(live or {})
        if must_go and not one.stopping:
            one.stopping, one.left_ticks = True, one.grace_ticks
            if one.code is None:
                one.work.stop()
        if one.code is None and not self._is_waiting(one):
            one.code = one.work.tick()
            if one.code is not None and is_there and not must_go:
                self._judge(one, live or {})
        if one.stopping:
            one.left_ticks -= 1
            if one.left_ticks <= 0:
                self.sets.remove(one)

    def _judge(self, one: PodSet, job: Object) -> None:
        """Do what the failure policy says of an end that nobody asked for."""
        counted = self.restarts.get(one.uid, 0)
        if one.code == 0:
            self._end(job, "Complete")
        elif one.code in _NEVER or (one.code not in _FREE and counted >= _MAX_RESTARTS):
            self._end(job, "Failed")
        else:
            self.restarts[one.uid] = counted + (one.code not in _FREE)
            one.stopping, one.left_ticks = True, one.grace_ticks

    def _end(self, job: Object, kind: str) -> None:
        now = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        one = {"type": kind, "status": "True", "lastTransitionTime": now, "reason": "PodFailure"}
        job["status"] = {"conditions": [{**one, "message": kind}]}
        self._touch(job)

    def _reconcile(self, job: Object) -> None:
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        copied = f"{CONFIG_MAPS}/{name}-runtime-snapshot"
        owner = self.objects.setdefault(copied, {"metadata": {"uid": uid}})["metadata"]["uid"]
        own = [one for one in self.sets if one.uid == uid]
        over = (job.get("status") or {}).get("conditions")
        if "deletionTimestamp" in job["metadata"]:
            if not own:
                del self.objects[f"{TRAIN_JOBS}/{name}"]
            return
        if owner != uid or over or job["spec"].get("suspend") or own:
            return
        if self.sets:
            others = {one.uid for one in self.sets}
            self.wrongs.append(f"pods of {uid} were made beside those of {others}")
        number = sum(1 for _ in filter(lambda made: made == uid, self.launches))
        self.launches.append(uid)
        ticks = self.faults.chance.randrange(*self.grace_ticks)
        self.sets.append(PodSet(copy.deepcopy(job), number, self.make_work(job), ticks))

    def _is_waiting(self, one: PodSet) -> bool:
        return self.faults.unschedulable and not one.stopping and self.num_nodes > 1

    def _collect(self) -> None:
        """Take away the copies of runtimes whose job is gone, a moment later."""
        for path in [key for key in self.objects if key.endswith("-runtime-snapshot")]:
            uid = self.objects[path]["metadata"]["uid"]
            lives = any(job["metadata"]["uid"] == uid for job in self._below(TRAIN_JOBS))
            if not lives and self.faults.chance.random() < 0.2:
                del self.objects[path]

    def _pods(self) -> list[Object]:
        return [self._pod(one, rank) for one in self.sets for rank in range(self.num_nodes)]

    def _pod(self, one: PodSet, rank: int) -> Object:
        name = f"{one.job['metadata']['name']}-node-0-{rank}"
        waits = self._is_waiting(one) and rank > 0
        metadata: Object = {
            "name": f"{name}-{one.uid}-{one.restart}",
            "uid": f"{name}-{one.uid}-{one.restart}",
            "labels": {
                "batch.kubernetes.io/job-completion-index": str(rank),
                "jobset.sigs.k8s.io/restart-attempt": str(one.restart),
            },
        }
        if one.stopping:
            metadata["deletionTimestamp"] = "2026-11-24T00:00:00Z"
        told: Object = {"phase": "Running"}
        if waits:
            unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            told = {"phase": "Pending", "conditions": [unplaced]}
        elif one.code is not None:
            ended = {"exitCode": one.code, "reason": "Error" if one.code else "Completed"}
            told = {"phase": "Failed" if one.code else "Succeeded", **container(terminated=ended)}
        spec = {"containers": [], **({} if waits else {"nodeName": f"node-{rank}"})}
        return {"metadata": metadata, "spec": spec, "status": told}


def _must_go(job: Object) -> bool:
    return bool(job["spec"].get("suspend")) or "deletionTimestamp" in job["metadata"]


def _runtime_of(job: Object) -> str:
    return f"{RUNTIMES}/{job['spec']['runtimeRef']['name']}"


def _merge(target: Object, change: Object) -> None:
    for key, value in change.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        elif key not in ("uid", "resourceVersion"):
            target[key] = value
