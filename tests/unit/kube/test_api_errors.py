"""What an API that is away, slow or says no is taken to mean.

The other side is a small HTTP server that answers as the real API server did.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny.kube_api import JOB, PODS, TRAIN_JOB, Api, connect_to, serve, status

from kinetoscope.kube import api_errors
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.jobs.submit import observe, wait


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


def test_every_patch_is_a_merge_patch(api: Api, cluster: Cluster) -> None:
    path = "/api/v1/namespaces/runs/configmaps/x"
    api.answers["PATCH", path] = lambda: (200, {"metadata": {"name": "x"}})
    cluster.core.patch_namespaced_config_map("x", "runs", {"data": {}})
    assert [request[:5] for request in api.requests] == [
        ("PATCH", path, "", "application/merge-patch+json", '{"data": {}}')
    ]
