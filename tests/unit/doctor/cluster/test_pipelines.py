"""What the doctor finds of a Pipelines backend: its version, its settings, whom steps run as."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import kube_api
from tiny.kube_api import Api

from kinetoscope.core.findings import Finding
from kinetoscope.doctor.cluster.context import Context, Options
from kinetoscope.doctor.cluster.pipelines import check_pipelines, judge_version
from kinetoscope.doctor.cluster.step_account import Backend, judge_account

DEPLOYMENTS = "/apis/apps/v1/deployments"
HEALTH = "/api/v1/namespaces/{}/services/ml-pipeline:8888/proxy/apis/v2beta1/healthz"
CONFIG_MAPS = "/api/v1/namespaces/runs/configmaps"
BINDING = "/apis/rbac.authorization.k8s.io/v1/namespaces/runs/rolebindings/kinetoscope-launcher"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (["2.17.0"], "ok"),
        (["", "2.16.0"], "ok"),
        (["", "2.15.0"], "bad"),
        (["2.14.3", "2.17.0"], "bad"),
        (["", "latest"], "poor"),
        ([], "poor"),
    ],
)
@pytest.mark.parametrize("restricted", [True, False])
def test_pipelines_need_a_version(told: list[str], state: str, restricted: bool) -> None:
    finding = judge_version(told, "tried", restricted=restricted)
    assert finding.state == state
    assert ("runAsNonRoot" in finding.found) == (state != "ok")
    assert ("(restricted)" in finding.found) == (restricted and state != "ok")


@pytest.mark.parametrize(
    ("backend", "bound", "missing", "state", "found"),
    [
        (Backend("runs", False, "pipeline-runner"), ["pipeline-runner"], None, "ok", "runs/pipe"),
        (Backend("kubeflow", True, "default-editor"), ["x", "default-editor"], None, "ok", "runs/"),
        (Backend("kubeflow", True, "default-editor"), ["pipeline-runner"], None, "bad", "bound to"),
        (
            Backend("runs", False, "pipeline-runner"),
            [],
            ["create trainjobs"],
            "bad",
            "create train",
        ),
        (Backend("runs", False, "pipeline-runner"), [], None, "bad", "bound to none"),
        (Backend("runs", False, "pipeline-runner"), ["x"], [], "ok", "runs/pipeline-runner"),
        (Backend("kubeflow", False, "x"), ["x"], [], "poor", "all steps in kubeflow, not in runs"),
    ],
)
def test_the_account_of_steps_is_judged(
    backend: Backend, bound: list[str], missing: list[str] | None, state: str, found: str
) -> None:
    finding = judge_account(backend, "runs", bound, missing, "tried")
    assert finding.state == state
    assert found in finding.found
    assert bool(finding.hint) == (state != "ok")


@pytest.fixture
def api() -> Api:
    """A backend for one user, with the stock settings, in the namespace of the runs."""
    api = Api()
    _backend(api, "runs", {})
    defaults = "spec:\n  templateDefaults: {retryStrategy: {limit: '2', retryPolicy: OnError}}\n"
    data = {"data": {"workflowDefaults": defaults}}
    api.has(f"{CONFIG_MAPS}/workflow-controller-configmap", data)
    api.has("/api/v1/namespaces/runs", {"metadata": {"labels": {}}})
    _bind(api, "pipeline-runner")
    refused = kube_api.status(403, "Forbidden", "you may not ask for others' rights")
    api.answers["POST", REVIEWS] = lambda: refused
    return api


def _backend(api: Api, namespace: str, container: dict[str, Any], version: str = "2.17.0") -> None:
    image = {"image": f"ghcr.io/kubeflow/kfp-api-server:{version}"}
    spec = {"template": {"spec": {"containers": [image | container]}}}
    metadata = {"namespace": namespace, "name": "ml-pipeline"}
    api.lists(DEPLOYMENTS, {"metadata": metadata, "spec": spec})
    api.has(HEALTH.format(namespace), {"tag_name": version})


def _bind(api: Api, *names: str) -> None:
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": "runs"} for name in names]
    api.has(BINDING, {"subjects": subjects})


@pytest.fixture
def context(api: Api, tmp_path: Path) -> Iterator[Context]:
    with kube_api.serving(api, tmp_path) as cluster:
        yield Context(cluster, Options(), lambda _: None)


def _found(context: Context) -> dict[str, Finding]:
    return {finding.check: finding for finding in check_pipelines(context)}


def test_a_stock_backend_is_fine(context: Context) -> None:
    assert {name: finding.state for name, finding in _found(context).items()} == {
        "pipelines": "ok",
        "pipelines retry": "ok",
        "pipelines account": "ok",
    }


def test_an_old_backend_can_t_run_steps_in_a_restricted_namespace(
    context: Context, api: Api
) -> None:
    _backend(api, "runs", {}, version="2.15.2")
    assert "(restricted)" not in _found(context)["pipelines"].found
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.has("/api/v1/namespaces/runs", {"metadata": {"labels": labels}})
    finding = _found(context)["pipelines"]
    assert finding.state == "bad"
    assert "(restricted)" in finding.found
    assert ">= 2.16" in finding.hint


@pytest.mark.parametrize(
    "container",
    [
        {"env": [{"name": "DEFAULTPIPELINERUNNERSERVICEACCOUNT", "value": "runner"}]},
        {"envFrom": [{"configMapRef": {"name": "users"}}]},
        {
            "envFrom": [{"secretRef": {"name": "other"}}, {"configMapRef": {"name": "none"}}],
            "env": [
                {"name": "OTHER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {
                    "name": "DEFAULTPIPELINERUNNERSERVICEACCOUNT",
                    "valueFrom": {"configMapKeyRef": {"name": "users", "key": "RUNNER"}},
                },
            ],
        },
    ],
    ids=["in words", "from a ConfigMap", "by a key of a ConfigMap"],
)
def test_the_account_is_read_from_the_backend_s_environment(
    context: Context, api: Api, container: dict[str, Any]
) -> None:
    _backend(api, "runs", container)
    data = {"DEFAULTPIPELINERUNNERSERVICEACCOUNT": "runner", "RUNNER": "runner"}
    api.has(f"{CONFIG_MAPS}/users", {"data": data})
    finding = _found(context)["pipelines account"]
    assert finding.state == "bad"
    assert "steps run as runner, but the chart's Role is bound to pipeline-runner" in finding.found
    _bind(api, "pipeline-runner", "runner")
    assert _found(context)["pipelines account"].state == "ok"


def test_rights_from_another_binding_are_as_good(context: Context, api: Api) -> None:
    _bind(api, "other")
    api.has(REVIEWS, {"status": {"allowed": False}}, method="POST")
    assert "create trainjobs.trainer.kubeflow.org" in _found(context)["pipelines account"].found
    api.has(REVIEWS, {"status": {"allowed": True}}, method="POST")
    assert _found(context)["pipelines account"].state == "ok"


def test_a_named_account_goes_before_the_backend_s(context: Context, api: Api) -> None:
    _bind(api, "mine")
    named = Context(context.cluster, Options(service_account="mine"), context.tell)
    assert _found(named)["pipelines account"].state == "ok"


def test_a_backend_for_one_user_runs_steps_in_its_own_namespace(context: Context, api: Api) -> None:
    api.has("/api/v1/namespaces/kubeflow/configmaps/workflow-controller-configmap", {})
    _backend(api, "kubeflow", {})
    finding = _found(context)["pipelines account"]
    assert finding.state == "poor"
    assert "--namespace kubeflow" in finding.hint
    _backend(api, "kubeflow", {"env": [{"name": "MULTIUSER", "value": "true"}]})
    assert _found(context)["pipelines account"].state == "ok"
