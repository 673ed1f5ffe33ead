"""A small HTTP server that answers as Kubernetes' API server did, and what it told of jobs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from kinetoscope.kube.connection import Cluster, connect
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.profiles import make_profile

Answer = tuple[int, dict[str, Any]]
JOB = TrainingJob(
    name="train", namespace="runs", run="rabc2345", stage="train-vae", command=["kino"]
)
_TRAINER = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/runs"
TRAIN_JOBS = f"{_TRAINER}/trainjobs"
TRAIN_JOB = f"{TRAIN_JOBS}/train"
RUNTIMES = f"{_TRAINER}/trainingruntimes"
RUNTIME = f"{RUNTIMES}/train"
WORKLOADS = "/apis/kueue.x-k8s.io/v1beta1/namespaces/runs/workloads"
JOBS = "/apis/batch/v1/namespaces/runs/jobs"
PODS = "/api/v1/namespaces/runs/pods"
EVENTS = "/api/v1/namespaces/runs/events"
CONFIG_MAPS = "/api/v1/namespaces/runs/configmaps"
TEMPLATES = f"{CONFIG_MAPS}/kinetoscope-templates"


class Request(NamedTuple):
    """What a client asked."""

    method: str
    path: str
    query: str
    content_type: str | None
    body: str
    who: str = ""
    """What the client identifies itself by."""


class Api:
    """Answers requests by method and path; what is not listed is absent."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Callable[[], Answer]] = {}
        self.requests: list[Request] = []
        self.changes: list[dict[str, Any]] = []
        """Objects whose changes those hear of who watch, one each."""

    def has(self, path: str, value: dict[str, Any], *, method: str = "GET") -> None:
        """Answer with a value from now on."""
        self.answers[method, path] = lambda: (200, value)

    def lists(self, path: str, *items: dict[str, Any]) -> None:
        """Answer with a list of objects from now on."""
        self.has(path, {"metadata": {"resourceVersion": "1"}, "items": list(items)})

    def sent(self, method: str) -> list[Request]:
        """Return the requests of a method."""
        return [request for request in self.requests if request.method == method]

    def answer(self, request: Request) -> Answer | None:
        """Return the status and the body of an answer; None where none ever comes."""
        method, path = request.method, request.path
        if "watch=True" in request.query:
            change = {"type": "MODIFIED", "object": self.changes.pop(0)} if self.changes else {}
            return 200, change
        given = self.answers.get((method, path))
        return given() if given else status(404, "NotFound", f"{path} not found")


def status(code: int, reason: str, message: str) -> Answer:
    """Return an error as the API server words it."""
    return code, {"kind": "Status", "status": "Failure", "reason": reason, "message": message}


def serve(api: Api) -> ThreadingHTTPServer:
    """Return a server of an API; it listens, and answers once it is run."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode()
            path, _, query = self.path.partition("?")
            kind = self.headers.get("Content-Type")
            who = self.headers.get("Authorization") or ""
            request = Request(self.command, path, query, kind, body, who)
            api.requests.append(request)
            answer = api.answer(request)
            if answer is None:
                self.close_connection = True
                return
            code, value = answer
            data = f"{json.dumps(value)}\n".encode() if value else b""
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@contextmanager
def serving(api: Api, folder: Path) -> Iterator[Cluster]:
    """Serve an API for a while; yields the cluster that it is of.

    Args:
        api: that answers.
        folder: for a token.
    """
    server = serve(api)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield connect_to(server.server_port, folder)
    server.shutdown()
    server.server_close()
    thread.join()


def connect_to(port: int, folder: Path, who: str = "hunter2") -> Cluster:
    """Return the cluster behind a port of this machine."""
    token = folder / "token"
    token.write_text(who)
    endpoint = f"http://127.0.0.1:{port}"
    return connect(make_profile(name="x", endpoint=endpoint, token_file=token, namespace="runs"))


def ago(**how_long: float) -> str:
    """Return a moment of the past as Kubernetes writes it."""
    return (datetime.now(tz=UTC) - timedelta(**how_long)).strftime("%Y-%m-%dT%H:%M:%SZ")


def train_job(*conditions: str, **metadata: Any) -> dict[str, Any]:
    """Return a TrainJob of JOB with conditions that became true a minute ago."""
    then = ago(minutes=1)
    return {
        "metadata": {
            "name": "train",
            "uid": "u",
            "creationTimestamp": ago(minutes=10),
            "labels": {"kinetoscope.dev/run": "rabc2345"},
            "annotations": {"kinetoscope.dev/spec-digest": JOB.digest()},
            **metadata,
        },
        "spec": {"runtimeRef": {"name": metadata.get("name", "train")}},
        "status": {
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": then} for kind in conditions
            ]
        },
    }


def pod(rank: int = 0, *, name: str = "", **pod_status: Any) -> dict[str, Any]:
    """Return a pod of JOB."""
    name = name or f"train-node-0-{rank}-abcde"
    labels = {"batch.kubernetes.io/job-completion-index": str(rank)}
    return {
        "metadata": {"name": name, "uid": name, "labels": labels},
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {"phase": "Running", **pod_status},
    }


def make_template(image: str = "trainer:1") -> dict[str, Any]:
    """Return the chart's ConfigMap of templates, as small as it may be."""
    container = {"name": "node", "image": image}
    pod_template = {"spec": {"containers": [container]}}
    jobs = [{"name": "node", "template": {"spec": {"template": pod_template}}}]
    template = {"kind": "TrainingRuntime", "spec": {"template": {"spec": {"replicatedJobs": jobs}}}}
    return {"data": {"training-runtime.yaml": json.dumps(template)}}


def container(**state: Any) -> dict[str, Any]:
    """Return the status of a pod's container that trains."""
    rest = {"image": "trainer:1", "imageID": "", "ready": False, "restartCount": 0}
    return {"containerStatuses": [{"name": "node", "state": state, **rest}]}
