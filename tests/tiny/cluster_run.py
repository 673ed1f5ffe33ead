"""A run whose training step is launched as its pipeline would: from a Job of the cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import installed
import pytest
import yaml

from kinetoscope.config.load import load_config
from kinetoscope.core.settings import workspace
from kinetoscope.data.config import SynthConfig
from kinetoscope.data.synthetic.draw import synthesize
from kinetoscope.kube.launching.record import JobRecord, read_job_record
from kinetoscope.pipelines.local import create_run
from kinetoscope.runs.record_types import Start
from kinetoscope.runs.records import Run
from kinetoscope.steps.contract import StepSpec, latest_spec
from kinetoscope.steps.ledger.entries import Entry, LedgerState
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.steps.results import read_status, step_state
from kinetoscope.storage.open import open_store

STEP = "train_spatial_vae"
EVERY = 10
"""Steps between two checkpoints."""
RUN_STEP = (
    "import json, sys; from kinetoscope.runs.tasks.run_step import run_step; "
    "print(run_step(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))"
)
_APART = {
    "maxSkew": 1,
    "topologyKey": "kubernetes.io/hostname",
    "whenUnsatisfiable": "ScheduleAnyway",
}
_SMALL = {
    "gpus": 0,
    "cpu": "50m",
    "memory": "1500Mi",
    "shm": "64Mi",
    "topology_spread": [_APART],
}
_SECONDS = 300
_DISRUPTED = {"type": "DisruptionTarget", "status": "True"}


def small_config(*overrides: str) -> Any:
    """Return a run whose first stage takes half a minute on two ranks of one thread each."""
    given = [
        "runtimes.training.num_nodes=2",
        "runtimes.training.threads_per_process=1",
        "runtimes.training.grace_seconds=60",
        "train_spatial_vae.plan.batch_size=1",
        "train_spatial_vae.loop.num_steps=60",
        f"train_spatial_vae.loop.checkpoint_every_steps={EVERY}",
        f"cluster.training={json.dumps(_SMALL)}",
        *overrides,
    ]
    return load_config("smoke", given)


@dataclass(frozen=True)
class Outer:
    """How this machine reaches the object store of a release."""

    namespace: str
    variables: dict[str, str]

    @classmethod
    def of(cls, release: installed.Release, folder: Path) -> Outer:
        """Write what is needed into a folder, and name it by variables."""
        variables = outer_variables(release.namespace, folder)
        # As the wheel in the image has it: identity has no digests of sources.
        variables["KINO_CACHE_SOURCES"] = "0"
        return cls(release.namespace, variables)


def outer_variables(prefix: str, folder: Path) -> dict[str, str]:
    """Write the store's keys into a folder; return what a user's environment says of the store.

    Args:
        prefix: of the release in the bucket.
        folder: also for the workspace.
    """
    what = "the endpoint of KINO_TEST_S3_ENDPOINT as this machine reaches it"
    for name, variable in (("access_key", "ACCESS"), ("secret_key", "SECRET")):
        (folder / name).write_text(installed.given(f"KINO_TEST_S3_{variable}_KEY", what))
    return {
        "KINO_STORE_URI": f"s3://{installed.given('KINO_TEST_S3_BUCKET', what)}/{prefix}",
        "KINO_S3_ENDPOINT": installed.given("KINO_TEST_S3_OUTER_ENDPOINT", what),
        "KINO_S3_ADDRESSING": "path",
        "KINO_S3_CREDENTIALS_PATH": str(folder),
        "KINO_WORKSPACE": str(folder / "workspace"),
    }


class ClusterRun:
    """A run with its videos prepared, and one training step to launch.

    Args:
        run: with a start.
        outer: how its store is reached from here.
    """

    def __init__(self, run: Run, outer: Outer) -> None:
        self.run = run
        self.namespace = outer.namespace
        self.root = open_store(run.root_uri)
        self.clips_uri = run_here(run, "prepare_data", {})

    @property
    def state(self) -> LedgerState:
        """What the step's ledger comes to now."""
        return step_state(self.step_uri) if self.step_uri else LedgerState()

    @property
    def step_uri(self) -> str:
        """Where the step lives; empty before the run comes to it."""
        record = self.run.step(STEP)
        return self.run.step_uri(record) if record is not None else ""

    @property
    def spec(self) -> StepSpec:
        """What the latest start gave the step to do."""
        spec = latest_spec(self.step_uri, self.run.run_id)
        assert spec is not None
        return spec.model_copy(update={"root_uri": self.run.root_uri})

    def entries(self) -> list[Entry]:
        """Return the step's ledger."""
        return list(Ledger(open_store(self.step_uri)).entries())

    @property
    def job(self) -> JobRecord | None:
        """What the launcher tells of its job."""
        start = self.run.latest_start()
        return read_job_record(self.run.store, start.launcher_key(STEP))

    def launch(self, labels: Mapping[str, str] | None = None) -> str:
        """Start the step's launcher as a Job with the ServiceAccount of the pipeline's steps.

        Args:
            labels: further ones of its pod.

        Returns:
            The Job's name.
        """
        name = f"launcher-{uuid4().hex[:6]}"
        installed.apply(_launcher_job(self, name, {"test": "launcher", **(labels or {})}))
        return name

    def begin(self) -> None:
        """Start the run once more."""
        start = Start(process=ProcessIdentity.of(), started_at=time.time())
        self.run.begin(start, after=self.run.num_starts())

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = _SECONDS) -> None:
        """Wait until something has happened; tell all that is known where it does not."""
        installed.wait_until(condition, what, seconds=seconds, pause_seconds=0.3, told=self.told)

    def wait_for_checkpoint(self, step: int) -> None:
        """Wait until a checkpoint of a step, or a later one, is saved."""
        self.wait_for(lambda: self.newest() >= step, f"a checkpoint of step {step}")

    def wait_for_attempt(self, number: int) -> None:
        """Wait until an attempt of that number, or a later one, has begun."""
        self.wait_for(lambda: self.state.generation >= number, f"attempt {number}")

    def newest(self) -> int:
        """Return the step of the newest checkpoint."""
        newest = self.state.newest
        return newest.step if newest is not None else 0

    def steps_trained(self) -> int:
        """Return how far the latest attempt said it is."""
        status = read_status(self.step_uri)
        return int(status.progress.done) if status is not None else 0

    def wait_for_end(self, launcher: str, seconds: float = _SECONDS) -> bool:
        """Wait for the end of a launcher; tell whether it succeeded."""
        self.wait_for(lambda: _end_of(self.namespace, launcher) is not None, "its end", seconds)
        return bool(_end_of(self.namespace, launcher))

    def train_jobs(self) -> list[dict[str, Any]]:
        """Return the TrainJobs of the namespace."""
        return installed.items("trainjobs", self.namespace)

    def training_pods(self) -> list[dict[str, Any]]:
        """Return the training pods that there are now, by rank."""
        pods = [
            pod
            for pod in installed.items("pods", self.namespace)
            if pod["metadata"]["labels"].get("kinetoscope.dev/run") == self.run.run_id
        ]
        return sorted(pods, key=lambda pod: pod["metadata"]["name"])

    def told(self) -> str:
        """Return what pods, launchers and records say: the reason of a failed test."""
        where = ("-n", self.namespace)
        seen = installed.run("kubectl", *where, "get", "pods,jobs,trainjobs", "-o", "wide").stdout
        logs = installed.run(
            "kubectl", *where, "logs", "-l", "test=launcher", "--tail=25", "--prefix"
        )
        return f"{seen}\n{logs.stdout}{logs.stderr}\n{self.job}\n{self.state}"


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[pytest.MonkeyPatch]:
    """Set variables for a while."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield patch


def begin_run(outer: Outer, videos: Path, *overrides: str) -> ClusterRun:
    """Make a run in the store of the environment, and prepare its videos on this machine."""
    if not videos.exists():
        synthesize(videos, SynthConfig(num_clips=12, num_frames=20, size_px=32))
    run = create_run(small_config(*overrides), _reachable(videos), workspace())
    run.begin(Start(process=ProcessIdentity.of(), started_at=time.time()), after=0)
    return ClusterRun(run, outer)


def _reachable(videos: Path) -> str:
    """Return where the pods of the cluster find the videos: in the bucket, if the store is one."""
    store = workspace().store_uri
    if not store.startswith("s3:"):
        return str(videos)
    command = [str(Path(sys.executable).with_name("kino")), "data", "upload", str(videos)]
    told = installed.call(*command, "--to", f"{store}/sets", "--json")
    return str(json.loads(told)["manifest"])


def run_here(run: Run, name: str, inputs: dict[str, str]) -> str:
    """Run a step on this machine; return its URI."""
    command = [sys.executable, "-c", RUN_STEP, run.uri, name, json.dumps(inputs)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=3 * _SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()[-1]


def _launcher_job(run: ClusterRun, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return a Job whose pod is the chart's probe, but for what it runs and as whom."""
    templates = json.loads(
        installed.kubectl(
            *("get", "configmap", "kinetoscope-templates", "-n", run.namespace, "-o", "json")
        )
    )["data"]
    spec = yaml.safe_load(templates["probe-pod.yaml"])["spec"]
    spec |= {
        "serviceAccountName": installed.RUNNER,
        "automountServiceAccountToken": True,
        "terminationGracePeriodSeconds": 2,
    }
    del spec["activeDeadlineSeconds"]
    container = spec["containers"][0]
    inputs = json.dumps({"clips": run.clips_uri})
    container["command"] = ["python", "-c", RUN_STEP, run.run.uri, STEP, inputs]
    container.setdefault("env", []).extend(
        {"name": key, "value": value}
        for key, value in {
            "KINO_LAUNCHER": "trainjob",
            "KINO_RUN_START": str(run.run.num_starts()),
            "KINO_CACHE_SOURCES": "0",
            "PYTHONUNBUFFERED": "1",
        }.items()
    )
    # As in a pod of Kubeflow Pipelines.
    own_name = {"fieldRef": {"fieldPath": "metadata.name"}}
    container["env"].append({"name": "KFP_POD_NAME", "valueFrom": own_name})
    _add_packages(spec, container)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": run.namespace},
        "spec": {
            "backoffLimit": 6,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": "probe", "operator": "In", "values": [1]},
                    },
                    {"action": "Ignore", "onPodConditions": [_DISRUPTED]},
                ]
            },
            "template": {"metadata": {"labels": dict(labels)}, "spec": spec},
        },
    }


def _add_packages(spec: dict[str, Any], container: dict[str, Any]) -> None:
    """Mount what training pods get their packages from where they are not in an image."""
    if os.environ.get("KINO_TEST_TRAINER_TAG"):
        return
    claim = {"claimName": "site-packages", "readOnly": True}
    spec["volumes"].append({"name": "site-packages", "persistentVolumeClaim": claim})
    path = installed.SITE_PACKAGES_PATH
    mount = {"name": "site-packages", "mountPath": path, "readOnly": True}
    container["volumeMounts"].append(mount)
    container["env"].append({"name": "PYTHONPATH", "value": path})


def _end_of(namespace: str, name: str) -> bool | None:
    """Return whether a Job succeeded; None while it has not ended."""
    job = json.loads(installed.kubectl("get", "job", name, "-n", namespace, "-o", "json"))
    conditions: Sequence[dict[str, str]] = job["status"].get("conditions") or ()
    ends = {one["type"] for one in conditions if one["status"] == "True"}
    return "Complete" in ends if ends & {"Complete", "Failed"} else None
