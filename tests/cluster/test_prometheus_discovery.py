"""A real Prometheus finds a training pod by the shipped scrape settings and runs the shipped rules.

It must know ``kubernetes_sd_configs``, which Debian's is built without. To compile one, in the
folder ``tests/cluster/prometheus``::

    CGO_ENABLED=0 go build -tags remove_all_sd,enable_kubernetes_sd -o DIR/prometheus \
        github.com/prometheus/prometheus/cmd/prometheus

and set ``KINO_TEST_PROMETHEUS=DIR/prometheus``, or have it on the PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen
from uuid import uuid4

import pytest
import yaml
from rendering import CHART, MINIMAL, render
from tiny.cluster_faults import delete_a_pod
from tiny.cluster_run import STEP, ClusterRun

from kinetoscope.kube.config import PodConfig
from kinetoscope.kube.jobs.submit import TrainingJob, delete, submit
from kinetoscope.telemetry.training_metrics import StepFigures, TrainingMetrics

if TYPE_CHECKING:
    from installed import Release

    from kinetoscope.kube.connection import Cluster

MONITORING = CHART / "files" / "monitoring"
RUN, STAGE, POD = "rtest123", "train_dit_1", "training"
NUM_STEPS = 7
SECONDS = 120
T = TypeVar("T")
# Any image with Python serves text.
IMAGE = os.environ.get("KINO_TEST_PYTHON_IMAGE", "python:3.11-slim-bookworm")
SERVER = """
import http.server, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/metrics" else 404)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.end_headers()
        self.wfile.write(pathlib.Path("/served/metrics").read_bytes())
http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
"""


def figures() -> str:
    """What our own exporter serves of a training whose loss has just become not finite."""
    with TrainingMetrics(RUN, STAGE) as metrics:
        step = StepFigures(
            seconds=0.5,
            data_wait_seconds=0.0,
            num_samples=4,
            num_tokens=64,
            losses={"total": 0.25},
            grad_norm=1.0,
            learning_rate=1e-3,
        )
        for _ in range(NUM_STEPS):
            metrics.step(step)
        metrics.nonfinite()
        with urlopen(metrics.serve(), timeout=10) as response:  # noqa: S310 (our own)
            return str(response.read().decode())


def training_pod() -> tuple[dict[str, Any], int]:
    """A pod as the chart's runtime has it, but for what runs in it; and its metrics port."""
    templates = render(MINIMAL).one("ConfigMap", "kinetoscope-templates", "kubeflow")
    runtime = yaml.safe_load(templates["data"]["training-runtime.yaml"])
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    template = job["template"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    port = next(p["containerPort"] for p in container["ports"] if p["name"] == "metrics")
    labels = {"kinetoscope.dev/run": RUN, "kinetoscope.dev/stage": STAGE}
    server = {
        "name": container["name"],
        "image": IMAGE,
        "command": ["python3", "-c", SERVER, str(port)],
        "ports": container["ports"],
        "securityContext": container["securityContext"],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": "served", "mountPath": "/served"}],
        "readinessProbe": {"httpGet": {"path": "/metrics", "port": port}, "periodSeconds": 1},
    }
    metadata = {
        "name": POD,
        "labels": template["metadata"]["labels"] | labels,
        "annotations": template["metadata"]["annotations"],
    }
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": template["spec"]["securityContext"],
        "terminationGracePeriodSeconds": 0,
        "containers": [server],
        "volumes": [{"name": "served", "configMap": {"name": "served"}}],
    }
    return {"metadata": metadata, "spec": spec}, port


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str

    def get(self, path: str) -> Any:
        with urlopen(f"{self.url}/api/v1/{path}", timeout=10) as response:  # noqa: S310 (our own)
            return json.loads(response.read())["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self.get(f"query?query={quote(expression)}")["result"]
        return result


@pytest.fixture
def prometheus(cluster: Cluster, tmp_path: Path) -> Iterator[Prometheus]:
    """Prometheus with the shipped settings, looking every second instead of every 15."""
    program = os.environ.get("KINO_TEST_PROMETHEUS") or shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus on the PATH, and KINO_TEST_PROMETHEUS is not set")
    jobs = yaml.safe_load((MONITORING / "scrape-config.yaml").read_text())
    for job in jobs:
        job["scrape_interval"] = "1s"
        job["kubernetes_sd_configs"][0]["kubeconfig_file"] = os.environ["KUBECONFIG"].split(":")[0]
    config = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": [str(MONITORING / "rules.yaml")],
        "scrape_configs": jobs,
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = tmp_path / "prometheus.log"
    command = [
        program,
        f"--config.file={tmp_path / 'prometheus.yaml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
    ]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        server = Prometheus(f"http://{address}")
        _wait_until_it_answers(server, process, log)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def pod(cluster: Cluster, namespace: str) -> str:
    """The namespace of a training pod that serves its metrics."""
    served = {"metadata": {"name": "served"}, "data": {"metrics": figures()}}
    cluster.core.create_namespaced_config_map(namespace, served)
    body, port = training_pod()
    cluster.core.create_namespaced_pod(namespace, body)
    address = eventually(lambda: _ready_address(cluster, namespace))
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError as error:
        pytest.skip(f"this machine does not reach pods ({address}: {error})")
    return namespace


def test_prometheus_scrapes_the_pod_and_evaluates_the_rules(
    prometheus: Prometheus, pod: str
) -> None:
    (target,) = eventually(lambda: _targets_that_are_up(prometheus, pod))
    own = {"namespace": pod, "pod": POD, "run": RUN, "stage": STAGE, "job": "kinetoscope"}
    assert target["labels"].items() >= own.items()
    (steps,) = eventually(lambda: prometheus.query(f'kino_train_steps_total{{namespace="{pod}"}}'))
    assert steps["value"][1] == str(NUM_STEPS)
    instance = target["labels"]["instance"]
    assert steps["metric"] == own | {"__name__": "kino_train_steps_total", "instance": instance}
    groups = eventually(lambda: _evaluated_groups(prometheus))
    shipped = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
    assert _names(groups, "name") == _names(shipped, "alert", "record")
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    alert = eventually(lambda: _alert(prometheus, "KinetoscopeLossNotFinite", pod))
    assert alert["labels"].items() >= {"run": RUN, "stage": STAGE, "severity": "critical"}.items()
    assert RUN in alert["annotations"]["summary"]


def test_prometheus_scrapes_every_pod_of_a_job_that_trains(
    prometheus: Prometheus, cluster: Cluster, release: Release
) -> None:
    name = f"scraped-{uuid4().hex[:6]}"
    smoke = ["python", "-m", "kinetoscope.training.smoke.job", "--linger", str(SECONDS)]
    job = TrainingJob(
        name=name,
        namespace=release.namespace,
        run=name,
        stage="smoke",
        command=[*smoke, "--name", name],
        num_nodes=2,
        pod=PodConfig(gpus=0),
    )
    submit(cluster, job)
    try:
        trained = f'kino_train_steps_total{{namespace="{release.namespace}",run="{name}"}} >= 3'
        steps = eventually(lambda: _all_of(prometheus.query(trained), job.num_nodes))
    finally:
        delete(cluster, job, wait_seconds=60)
    pods = {series["metric"]["pod"] for series in steps}
    assert len(pods) == job.num_nodes
    assert all(pod.startswith(f"{name}-node-0-") for pod in pods)
    assert {series["metric"]["stage"] for series in steps} == {"smoke"}


@pytest.mark.slow
def test_the_loss_goes_on_over_a_preemption(
    prometheus: Prometheus, begin: Callable[..., ClusterRun]
) -> None:
    run = begin(600, seed=21)
    launcher = run.launch()
    run.wait_for_checkpoint(20)
    series = f'{{run="{run.run.run_id}",stage="{STEP}"}}'
    losses = eventually(lambda: prometheus.query(f"kino_train_loss{series}"))
    before = {found["metric"]["pod"] for found in losses}
    delete_a_pod(run)
    run.wait_for_attempt(2)
    assert run.wait_for_end(launcher), run.told()
    told = prometheus.query(f"max_over_time(kino_train_steps_total{series}[30m])")
    counts = {found["metric"]["pod"]: float(found["value"][1]) for found in told}
    after = counts.keys() - before
    assert len(before) == len(after) == 2
    # Each attempt counts its own: what one has saved, the next one goes on from. The steps of the
    # first one since it was scraped last are in no count: it had no time to wait for a scrape.
    saved = _went_on_from(run)
    assert max(counts[pod] for pod in after) == 600 - saved
    assert 0 < max(counts[pod] for pod in before) <= saved
    curve = prometheus.query(f"count_over_time(kino_train_loss{series}[30m])")
    assert {found["metric"]["pod"] for found in curve} == before | after


def _went_on_from(run: ClusterRun) -> int:
    """Return the step of the checkpoint that the last attempt chose."""
    happened = [entry.what for entry in run.entries()]
    saved = {what.prefix: what.step for what in happened if what.kind == "checkpoint"}
    return [saved.get(what.checkpoint, 0) for what in happened if what.kind == "attempt"][-1]


def _all_of(found: list[T], number: int) -> list[T]:
    return found if len(found) == number else []


def eventually(look: Callable[[], T]) -> T:
    """Return the first answer that is something."""
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, f"not seen within {SECONDS} s"
        time.sleep(0.5)
    return found


def _wait_until_it_answers(server: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            if "field kubernetes_sd_configs not found" in log.read_text():
                pytest.skip("this Prometheus is built without Kubernetes discovery (docstring)")
            raise AssertionError(log.read_text())
        try:
            return bool(server.get("status/buildinfo"))
        except URLError:
            return False

    eventually(answers)


def _ready_address(cluster: Cluster, namespace: str) -> str:
    status = cluster.core.read_namespaced_pod(POD, namespace).status
    ready = any(c.type == "Ready" and c.status == "True" for c in status.conditions or ())
    return str(status.pod_ip) if ready else ""


def _targets_that_are_up(prometheus: Prometheus, namespace: str) -> list[dict[str, Any]]:
    targets = [
        target
        for target in prometheus.get("targets?state=active")["activeTargets"]
        if target["labels"].get("namespace") == namespace
    ]
    return targets if all(target["health"] == "up" for target in targets) else []


def _evaluated_groups(prometheus: Prometheus) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = prometheus.get("rules")["groups"]
    done = all(rule["health"] != "unknown" for group in groups for rule in group["rules"])
    return groups if done else []


def _names(groups: list[dict[str, Any]], *keys: str) -> list[str]:
    rules = [rule for group in groups for rule in group["rules"]]
    return sorted(rule[key] for rule in rules for key in keys if key in rule)


def _alert(prometheus: Prometheus, name: str, namespace: str) -> dict[str, Any]:
    for alert in prometheus.get("alerts")["alerts"]:
        labels = alert["labels"]
        if (labels["alertname"], labels["namespace"]) == (name, namespace):
            return dict(alert)
    return {}
