"""A Kubeflow Pipelines backend with a release of the chart beside it, used as its users do."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import installed
import yaml
from tiny.cluster_run import outer_variables
from tiny.mlflow_server import free_port

from kinetoscope.core.ids import run_id_of
from kinetoscope.data.config import SynthConfig
from kinetoscope.data.synthetic.draw import synthesize
from kinetoscope.runs.records import Run
from kinetoscope.storage.open import open_store

Json = dict[str, Any]

STAGE = "train_spatial_vae"
GPU = "nvidia.com/gpu"
GRACE_SECONDS = 60
ENDED = ("SUCCEEDED", "FAILED", "CANCELED")
_PERMANENT = ("Succeeded", "Failed")
_SECONDS = 2400
# One node gets the training image, and all pods: its first pull takes minutes.
_ON_ONE_NODE = {"node_selector": {"kubernetes.io/hostname": "node-1"}}
_SMALL = {"cpu": "50m", "memory": "3Gi", "gpus": 1}


def overrides(seed: int, num_steps: int) -> list[str]:
    """Return what makes the recipe `smoke` one of our tests: each seed is another run's work."""
    given = [
        f"seed={seed}",
        f"cluster.training={json.dumps(_SMALL | _ON_ONE_NODE)}",
        f"cluster.other={json.dumps(_SMALL)}",
        "runtimes.training.threads_per_process=1",
        f"runtimes.training.grace_seconds={GRACE_SECONDS}",
        f"{STAGE}.loop.num_steps={num_steps}",
        f"{STAGE}.loop.checkpoint_every_steps=20",
    ]
    return [word for text in given for word in ("--set", text)]


@dataclass(frozen=True)
class Submitted:
    """A run of ours, and the one of Kubeflow that carries it."""

    run: str
    job: str


class Lab:
    """The backend and the release, as a user of this machine reaches them.

    Args:
        namespace: of Kubeflow Pipelines.
        folder: for what the user keeps.
    """

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace = namespace
        self.folder = folder
        self.videos = folder / "videos"
        # Of each test process its own: they may be at work at once.
        self.release = installed.Release(f"kino-{uuid4().hex[:6]}", namespace)
        self.variables: dict[str, str] = {}
        """What the user's environment says."""
        self._address = ""
        self._mlflow_port = free_port()

    def install(self, tag: str) -> None:
        """Install the chart, or upgrade it to the images of a tag."""
        store = installed.external_store_values(self.namespace, prefix=self.release.name)
        self.release.install(
            {
                "images": {
                    "registry": installed.given("KINO_TEST_REGISTRY", "where our images are"),
                    "controlPlane": {"tag": tag},
                    "trainer": {"tag": tag},
                },
                "runNamespaces": [{"name": self.namespace, "serviceAccount": installed.RUNNER}],
                "objectStore": store,
                "mlflow": _ON_NODE,
                "training": {
                    "shm": {"sizeLimit": "1Gi"},
                    "resources": {
                        "requests": {"cpu": "50m", "memory": "256Mi"},
                        "limits": {"memory": "3Gi"},
                    },
                },
            }
        )

    def address(self, service: str) -> str:
        """Return address and port of a Service."""
        found = json.loads(
            installed.kubectl("get", "service", service, "-n", self.namespace, "-o", "json")
        )["spec"]
        return f"{found['clusterIP']}:{found['ports'][0]['port']}"

    @contextmanager
    def forwarding(self) -> Iterator[None]:
        """Reach MLflow as its users do: it answers to its own names and this machine's alone."""
        service = f"service/{self.release.name}-kinetoscope-mlflow"
        command = ["kubectl", "-n", self.namespace, "port-forward", service]
        process = subprocess.Popen(
            [*command, f"{self._mlflow_port}:5000"], stdout=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def settle(self) -> None:
        """Write what a user's machine has: keys, a profile, videos."""
        self.variables = outer_variables(self.release.name, self.folder) | {
            "KINO_ON": "cluster",
            "KINO_PROFILES": str(self.folder / "profiles.yaml"),
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self._mlflow_port}",
            "OMP_NUM_THREADS": "1",
        }
        self._address = self.address("ml-pipeline")
        where = ("--namespace", self.namespace, "--release", self.release.name)
        self.kino("config", "profiles", "add", "lab", *where, "--kubeconfig", _kubeconfig())
        if not self.videos.exists():
            synthesize(self.videos, SynthConfig(num_clips=12, num_frames=20, size_px=32))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command of `kino`."""
        command = [str(Path(sys.executable).with_name("kino")), *words]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KINO_", "MLFLOW_"))}
        return subprocess.Popen(
            command,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=kept | self.variables,
        )

    def kino(self, *words: str) -> str:
        """Run a command of `kino` that must succeed; return its stdout."""
        process = self.start(*words)
        told, failed = process.communicate(timeout=_SECONDS)
        assert process.returncode == 0, f"kino {' '.join(words)}\n{told}{failed}"
        return told

    def submit(self, seed: int, num_steps: int, videos: str = "") -> Submitted:
        """Submit a run as its users do; its videos are the lab's, unless others are given."""
        words = ("run", "--recipe", "smoke", "--videos", videos or str(self.videos), "--json")
        told = json.loads(self.kino(*words, *overrides(seed, num_steps)))
        return Submitted(told["run"], told["kubeflow_run"])

    def api(self, method: str, path: str, body: Json | None = None) -> Json:
        """Call Kubeflow's own API as its pages do."""
        request = urllib.request.Request(
            f"http://{self._address}/apis/v2beta1/{path}",
            method=method,
            data=None if method == "GET" else json.dumps(body or {}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return dict(json.loads(answer.read() or b"{}"))

    def job_state(self, job: str) -> str:
        """Return how a run of Kubeflow fares."""
        return str(self.api("GET", f"runs/{job}").get("state", ""))

    def status(self, run: str) -> Json:
        """Return what `kino status` tells of a run."""
        return dict(json.loads(self.kino("status", run, "--json")))

    def step(self, run: str, name: str = STAGE) -> Json:
        """Return the row of a step."""
        return next(step for step in self.status(run)["steps"] if step["name"] == name)

    def records(self, run: str) -> Run:
        """Return the records of a run, as this process reads them: in `environment`."""
        return Run(self.variables["KINO_STORE_URI"], run)

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = _SECONDS) -> float:
        """Wait until something has happened; return after how many seconds."""
        return installed.wait_until(condition, what, seconds=seconds, told=self.told)

    def wait_for_steps(self, run: str, num_steps: int) -> None:
        """Wait until a run's first stage has trained so many steps."""
        self.wait_for(
            lambda: _begun(self.records(run)) and self.step(run)["progress"]["done"] >= num_steps,
            f"{num_steps} steps of {run}",
        )

    def wait_for_end(self, job: str) -> str:
        """Wait for the end of a run of Kubeflow; return its state.

        One that was terminated is told to have ended before its exit handler has.
        """
        self.wait_for(lambda: self._is_over(job), f"the end of {job}")
        return self.job_state(job)

    def _is_over(self, job: str) -> bool:
        which = ("-n", self.namespace, "-l", f"pipeline/runid={job}")
        label = "{.items[*].metadata.labels['workflows\\.argoproj\\.io/completed']}"
        completed = installed.kubectl("get", "workflows", *which, "-o", f"jsonpath={label}")
        return completed == "true" and self.job_state(job) in ENDED

    def training_pods(self, run: str) -> list[Json]:
        """Return the training pods of a run that have not ended."""
        return [
            pod
            for pod in self.pods()
            if pod["metadata"]["labels"].get("kinetoscope.dev/run") == run
            and pod["status"].get("phase") not in _PERMANENT
        ]

    def task_pods(self, job: str) -> list[Json]:
        """Return the pods of a run of Kubeflow, those that have ended among them."""
        return [
            pod for pod in self.pods() if pod["metadata"]["labels"].get("pipeline/runid") == job
        ]

    def train_jobs(self, run: str) -> list[Json]:
        """Return the TrainJobs of a run."""
        return [
            job
            for job in installed.items("trainjobs", self.namespace)
            if job["metadata"]["labels"].get("kinetoscope.dev/run") == run
        ]

    def delete_pod(self, name: str) -> None:
        """Delete a pod, as a drain does."""
        installed.kubectl("delete", "pod", name, "-n", self.namespace, "--wait=false")

    def told(self) -> str:
        """Return what there is: the reason of a failed test."""
        where = ("-n", self.namespace)
        told = installed.run("kubectl", *where, "get", "pods,trainjobs,workflows").stdout
        return "\n".join(line for line in told.splitlines() if "Completed" not in line)

    def pods(self) -> list[Json]:
        """Return all pods of the namespace."""
        return installed.items("pods", self.namespace)

    def retry(self, job: str) -> None:
        """Press Retry, after which a run of Kubeflow is at work."""
        self.wait_for(lambda: self._is_retried(job), "the retry to be taken", 60)
        self.wait_for(lambda: self.job_state(job) == "RUNNING", "the retry", 120)

    def _is_retried(self, job: str) -> bool:
        """Press Retry: Kubeflow takes it only once it knows of the end of all pods."""
        try:
            self.api("POST", f"runs/{job}:retry")
        except urllib.error.HTTPError:
            return False
        return True

    def step_reason(self, run: str) -> str:
        """Return why a run's first stage does not go on; empty before the run has begun."""
        return str(self.step(run)["reason"]) if _begun(self.records(run)) else ""

    def row(self, job: str) -> Json:
        """Return what `kino ls` tells of the run that one of Kubeflow carries."""
        rows = json.loads(self.kino("ls", "--json"))
        return next(row for row in rows if row["run"] == run_id_of(job))

    def compiled(self, given: list[str]) -> Json:
        """Return a pipeline that `kino compile` wrote, as Kubeflow's API takes it."""
        path = self.folder / "pipeline.yaml"
        self.kino("compile", "--recipe", "smoke", *given, "--out", str(path))
        spec, platform = yaml.safe_load_all(path.read_text())
        return {"pipeline_spec": {"pipeline_spec": spec, "platform_spec": platform}}

    def uploaded(self) -> str:
        """Return the URI of the lab's videos in the store."""
        told = json.loads(self.kino("data", "upload", str(self.videos), "--json"))
        return str(told["manifest"])

    @contextmanager
    def missing_video(self) -> Iterator[str]:
        """Keep one of a set's videos away for a while; yields the set's URI."""
        videos = self.folder / "incomplete"
        synthesize(videos, SynthConfig(num_clips=12, num_frames=20, size_px=32, seed=7))
        told = json.loads(self.kino("data", "upload", str(videos), "--json"))
        store = open_store(self.variables["KINO_STORE_URI"])
        digest = hashlib.sha256(min(videos.rglob("*.mp4")).read_bytes()).hexdigest()
        (key,) = [stat.key for stat in store.list("") if digest in stat.key]
        content = store.get_bytes(key)
        store.delete(key)
        yield str(told["manifest"])
        store.put_bytes(key, content)


_ON_NODE = {"nodeSelector": _ON_ONE_NODE["node_selector"], "persistence": {"size": "1Gi"}}


def _kubeconfig() -> str:
    return str(Path(os.environ["KUBECONFIG"]).absolute())


def _begun(run: Run) -> bool:
    return run.exists() and run.num_starts() > 0
