"""How jobs are watched and submitted when the API is away, slow or says no.

The other side is a small HTTP server that answers as the real API server did.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kinetoscope.kube import api_errors
from kinetoscope.kube.connection import Cluster, connect
from kinetoscope.kube.jobs.submit import Observation, TrainingJob, observe, resume, submit, wait
from kinetoscope.kube.profiles import make_profile

Answer = tuple[int, dict[str, Any]]
JOB = TrainingJob(
    name="train", namespace="runs", run="rabc2345", stage="train-vae", command=["kino"]
)
TRAIN_JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/runs/trainjobs"
TRAIN_JOB = f"{TRAIN_JOBS}/train"
RUNTIMES = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/runs/trainingruntimes"
PODS = "/api/v1/namespaces/runs/pods"


class Api:
    """Answers requests by method and path; what is not listed is absent."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Callable[[], Answer]] = {}
        self.requests: list[tuple[str, str, str | None, str]] = []

    def answer(self, method: str, path: str) -> Answer:
        given = self.answers.get((method, path))
        return given() if given else status(404, "NotFound", f"{path} not found")


def status(code: int, reason: str, message: str) -> Answer:
    return code, {"kind": "Status", "status": "Failure", "reason": reason, "message": message}


def serve(api: Api) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode()
            path = self.path.partition("?")[0]
            api.requests.append((self.command, path, self.headers.get("Content-Type"), body))
            code, value = api.answer(self.command, path)
            data = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def cluster(api: Api, tmp_path: Path) -> Iterator[Cluster]:
    server = serve(api)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield connect_to(server.server_port, tmp_path)
    server.shutdown()
    server.server_close()
    thread.join()


def connect_to(port: int, folder: Path) -> Cluster:
    token = folder / "token"
    token.write_text("hunter2")
    endpoint = f"http://127.0.0.1:{port}"
    return connect(make_profile(name="x", endpoint=endpoint, token_file=token))


def train_job(*conditions: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "train", "uid": "u", "creationTimestamp": "2026-11-24T00:00:00Z"},
        "spec": {},
        "status": {"conditions": [{"type": kind, "status": "True"} for kind in conditions]},
    }


def no_pods() -> Answer:
    return 200, {"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": []}


@pytest.mark.parametrize(
    ("code", "message", "kind", "hint"),
    [
        (401, "Unauthorized", api_errors.UnauthorizedError, "credentials are wrong or expired"),
        (403, 'pods is forbidden: User "x" cannot list', api_errors.ForbiddenError, "can-i list"),
        (404, "namespace gone", api_errors.AbsentError, None),
        (404, "", api_errors.AbsentError, "custom resource is not installed"),
        (409, "exists", api_errors.ConflictError, None),
        (422, "spec.x: Invalid value", api_errors.RefusedError, None),
        (500, "failed calling webhook", api_errors.ApiError, None),
    ],
)
def test_each_error_says_what_was_asked_what_came_and_what_to_do(
    api: Api, cluster: Cluster, code: int, message: str, kind: type, hint: str | None
) -> None:
    api.answers["GET", PODS] = lambda: status(code, "Reason", message)
    with pytest.raises(api_errors.ApiError, match="list pods in namespace runs: ") as error:
        cluster.core.list_namespaced_pod("runs")
    assert type(error.value) is kind
    assert (error.value.status, error.value.reason) == (code, "Reason")
    assert message in error.value.message
    assert "hunter2" not in f"{error.value.message}{error.value.hint}"
    assert (hint in str(error.value.hint)) if hint else error.value.hint is None


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("GET", "/api/v1/namespaces/runs", "get namespaces runs"),
        ("GET", "/api/v1/nodes", "list nodes"),
        ("POST", f"{PODS}", "create pods in namespace runs"),
        ("GET", f"{PODS}/a/log?follow=true", "get pods/log a in namespace runs"),
        (
            "PATCH",
            TRAIN_JOB,
            "patch trainjobs.trainer.kubeflow.org train in namespace runs",
        ),
        ("DELETE", "/apis/apps/v1/namespaces/x/jobs/y", "delete jobs.apps y in namespace x"),
        ("GET", "/version/", "GET /version/"),
    ],
)  # fmt: skip
def test_a_request_is_put_in_kubernetes_words(method: str, path: str, text: str) -> None:
    assert str(api_errors.describe_call(method, f"https://h:6443{path}")) == text


def test_nobody_there_is_told_from_every_answer(tmp_path: Path) -> None:
    server = serve(Api())
    server.server_close()
    closed = connect_to(server.server_port, tmp_path)
    with pytest.raises(api_errors.UnreachableError, match="Connection refused") as error:
        closed.version()
    assert "the cluster up?" in str(error.value.hint)
    seen = observe(closed, JOB)
    assert (seen.state, seen.reasons[0].kind) == ("unknown", "api")
    assert wait(closed, JOB, timeout_seconds=0.1).state == "unknown"


def test_silence_of_the_api_is_waited_out(api: Api, cluster: Cluster) -> None:
    answers = iter(
        [
            (200, train_job()),
            status(503, "ServiceUnavailable", "etcd is away"),
            status(403, "Forbidden", "no"),
            (200, train_job("Complete")),
        ]
    )
    api.answers["GET", TRAIN_JOB] = lambda: next(answers)
    api.answers["GET", PODS] = no_pods
    api.answers["GET", "/api/v1/namespaces/runs/events"] = lambda: (200, {"items": []})
    seen: list[Observation] = []
    assert wait(cluster, JOB, on_change=seen.append).state == "succeeded"
    assert [one.state for one in seen] == ["pending", "unknown", "unknown", "succeeded"]


def test_a_job_that_somebody_deleted_has_failed(api: Api, cluster: Cluster) -> None:
    seen = wait(cluster, JOB)
    assert (seen.state, [reason.kind for reason in seen.reasons]) == ("failed", ["deleted"])


def test_a_webhook_that_is_away_is_asked_again(api: Api, cluster: Cluster) -> None:
    answers = iter([status(500, "InternalError", "failed calling webhook"), (200, train_job())])
    api.answers["PATCH", TRAIN_JOB] = lambda: next(answers)
    resume(cluster, JOB)
    sent = ("PATCH", TRAIN_JOB, "application/merge-patch+json", '{"spec": {"suspend": false}}')
    assert api.requests == [sent, sent]


def test_every_patch_is_a_merge_patch(api: Api, cluster: Cluster) -> None:
    path = "/api/v1/namespaces/runs/configmaps/x"
    api.answers["PATCH", path] = lambda: (200, {"metadata": {"name": "x"}})
    cluster.core.patch_namespaced_config_map("x", "runs", {"data": {}})
    assert api.requests == [("PATCH", path, "application/merge-patch+json", '{"data": {}}')]


def test_a_job_that_is_there_is_adopted_without_the_template(api: Api, cluster: Cluster) -> None:
    existing = train_job()
    existing["metadata"]["annotations"] = {"kinetoscope.dev/spec-digest": JOB.digest()}
    api.answers["GET", TRAIN_JOB] = lambda: (200, existing)
    assert submit(cluster, JOB).adopted
    assert {method for method, *_ in api.requests} == {"GET"}


@pytest.fixture
def empty(api: Api) -> Api:
    """A namespace with the chart's template and without jobs."""
    container = {"name": "node", "image": "trainer:1"}
    pod = {"spec": {"containers": [container]}}
    jobs = [{"name": "node", "template": {"spec": {"template": pod}}}]
    template = {"kind": "TrainingRuntime", "spec": {"template": {"spec": {"replicatedJobs": jobs}}}}
    config_map = {"data": {"training-runtime.yaml": json.dumps(template)}}
    path = "/api/v1/namespaces/runs/configmaps/kinetoscope-templates"
    api.answers["GET", path] = lambda: (200, config_map)
    api.answers["GET", "/apis/batch/v1/namespaces/runs/jobs"] = lambda: (200, {"items": []})
    api.answers["GET", PODS] = no_pods
    api.answers["GET", RUNTIMES] = lambda: (200, {"items": []})
    api.answers["GET", TRAIN_JOBS] = lambda: (200, {"items": []})
    api.answers["POST", RUNTIMES] = lambda: (201, {})
    created = train_job()
    created["metadata"]["annotations"] = {"kinetoscope.dev/spec-digest": JOB.digest()}
    api.answers["POST", TRAIN_JOBS] = lambda: (201, created)
    return api


def test_a_webhook_that_does_not_see_the_new_runtime_yet_is_asked_again(
    empty: Api, cluster: Cluster
) -> None:
    created = empty.answers["POST", TRAIN_JOBS]()
    unseen = "specified trainingRuntime must be created before the TrainJob is created"
    answers = iter([status(403, "Forbidden", f"admission webhook denied: {unseen}"), created])
    empty.answers["POST", TRAIN_JOBS] = lambda: next(answers)
    assert not submit(cluster, JOB).adopted


def test_a_refusal_is_not_asked_again(empty: Api, cluster: Cluster) -> None:
    empty.answers["POST", TRAIN_JOBS] = lambda: status(403, "Forbidden", 'User "x" cannot create')
    with pytest.raises(api_errors.ForbiddenError, match="create trainjobs"):
        submit(cluster, JOB)
    sent = [request for request in empty.requests if request[:2] == ("POST", TRAIN_JOBS)]
    assert len(sent) == 1


def test_old_runtimes_of_jobs_that_are_gone_are_swept(empty: Api, cluster: Cluster) -> None:
    now = datetime.now(tz=UTC)
    ages = {"old": 3600, "used": 3600, "young": 60}
    runtimes = [
        {"metadata": {"name": name, "creationTimestamp": _stamp(now - timedelta(seconds=age))}}
        for name, age in ages.items()
    ]
    jobs = [{"spec": {"runtimeRef": {"name": "used"}}}]
    empty.answers["GET", RUNTIMES] = lambda: (200, {"items": runtimes})
    empty.answers["GET", TRAIN_JOBS] = lambda: (200, {"items": jobs})
    submit(cluster, JOB)
    deleted = [path for method, path, *_ in empty.requests if method == "DELETE"]
    assert deleted == [f"{RUNTIMES}/old"]


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
