"""The API server, and the controllers that runs stand on: Trainer, JobSet, monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kinetoscope.core.findings import Finding
from kinetoscope.doctor.cluster import versions
from kinetoscope.doctor.cluster.context import Context, Dict, failed
from kinetoscope.kube.api_errors import AbsentError, ApiError, ForbiddenError

if TYPE_CHECKING:
    from kinetoscope.doctor.cluster.versions import Supported

_TRAINER_HINT = (
    "helm install kubeflow-trainer oci://ghcr.io/kubeflow/charts/kubeflow-trainer --version 2.3.0 "
    "-n kubeflow-system --create-namespace (brings JobSet along)"
)
_NO_RUNTIME = "kino-doctor-none"


class _Controller(NamedTuple):
    """A controller with custom resources.

    Attributes:
        check: name of its check.
        group_version: of its custom resources.
        resources: those that we use.
        fields: of these resources; a version that lacks one is too old whatever its number.
        supported: its versions.
        label: finds its Deployment.
    """

    check: str
    group_version: str
    resources: tuple[str, ...]
    fields: tuple[str, ...]
    supported: Supported
    label: str


_TRAINER = _Controller(
    "trainer",
    "trainer.kubeflow.org/v1alpha1",
    ("trainjobs", "trainingruntimes"),
    ("runtimePatches", "numProcPerNode"),
    versions.TRAINER,
    "app.kubernetes.io/name in (trainer, kubeflow-trainer)",
)
_JOBSET = _Controller(
    "jobset",
    "jobset.x-k8s.io/v1alpha2",
    ("jobsets",),
    ("onJobFailureReasons", "onJobFailureMessagePatterns"),
    versions.JOBSET,
    "app.kubernetes.io/name=jobset",
)


def check_api(context: Context) -> list[Finding]:
    """Ask for the version of Kubernetes and for who we are."""
    tried = f"GET /version of {context.cluster.profile.way}"
    try:
        found = str(context.ask("/version")["gitVersion"])
    except ApiError as error:
        return [failed("api", error)]
    user = _user(context)
    number = versions.parse(found)
    verdict = "old" if number is None else versions.judge(number, versions.KUBERNETES)
    if verdict == "old":
        hint = f"Kubernetes {versions.KUBERNETES} is needed"
        return [Finding("api", "bad", tried, f"Kubernetes {found}, as {user}", hint)]
    return [Finding("api", "ok", tried, f"Kubernetes {found}, as {user}")]


def _user(context: Context) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = context.ask("/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
    except ApiError as error:
        return f"somebody ({error.detail})"
    return str(answer["status"]["userInfo"].get("username", "somebody without a name"))


def check_trainer(context: Context) -> list[Finding]:
    """Look at Trainer's and JobSet's custom resources, versions and webhooks."""
    return [
        *_controller(context, _TRAINER),
        *_controller(context, _JOBSET),
        _webhook(context, "trainer webhook", _TRAINER, _orphan_train_job(context.namespace)),
        _webhook(context, "jobset webhook", _JOBSET, _small_job_set(context.namespace)),
    ]


def _controller(context: Context, controller: _Controller) -> list[Finding]:
    path = f"/apis/{controller.group_version}"
    tried = f"GET {path}, /openapi/v3{path} and the controller's Deployment"
    try:
        served = {resource["name"] for resource in context.ask(path).get("resources", [])}
        missing = [name for name in controller.resources if name not in served]
        schema = "" if missing else context.ask_text(f"/openapi/v3{path}")
    except AbsentError:
        missing, schema = list(controller.resources), ""
    except ApiError as error:
        return [failed(controller.check, error)]
    if missing:
        group = controller.group_version
        found = f"custom resources {', '.join(missing)} of {group} are not installed"
        return [Finding(controller.check, "bad", tried, found, _TRAINER_HINT)]
    lacking = [name for name in controller.fields if f'"{name}"' not in schema]
    if lacking:
        found = f"its custom resources lack {', '.join(lacking)}: an older version"
        hint = f"upgrade it: {controller.supported} is needed"
        return [Finding(controller.check, "bad", tried, found, hint)]
    return [
        judge_controller(
            controller.check, controller.supported, tried, _deployed(context, controller)
        )
    ]


def _deployed(context: Context, controller: _Controller) -> list[Dict] | None:
    """Return the controller's Deployments, or None where we may not look."""
    try:
        answer = context.ask("/apis/apps/v1/deployments", labelSelector=controller.label)
    except ForbiddenError:
        return None
    items: list[Dict] = answer["items"]
    return items


def judge_controller(
    check: str, supported: Supported, tried: str, deployments: list[Dict] | None
) -> Finding:
    """Return the finding of a controller whose custom resources are there.

    Args:
        check: its name.
        supported: its versions.
        tried: for the finding.
        deployments: its Deployments; None where we may not look.
    """
    if deployments is None:
        found = "custom resources fit; its Deployment may not be read with these rights"
        return Finding(check, "ok", tried, found)
    if not deployments:
        found = "custom resources are there, but no Deployment of its controller"
        hint = "nothing will run unless a controller runs elsewhere: look for its Deployment"
        return Finding(check, "poor", tried, found, hint)
    names = [f"{d['metadata']['namespace']}/{d['metadata']['name']}" for d in deployments]
    if all(versions.unready(deployment) for deployment in deployments):
        hint = f"kubectl describe deployment -n {names[0].replace('/', ' ')}"
        return Finding(check, "bad", tried, f"{names[0]} has no ready replica", hint)
    tags = [tag for _, tag in versions.image_versions(deployments)]
    numbers = [(number, tag) for tag in tags if (number := versions.parse(tag))]
    if not numbers:
        found = f"custom resources fit; the image's tag ({', '.join(tags)}) tells no version"
        return Finding(check, "ok", tried, found)
    number, tag = numbers[0]
    verdict = versions.judge(number, supported)
    if verdict == "fits":
        return Finding(check, "ok", tried, tag)
    return Finding(check, "poor", tried, f"{tag} is not among {supported}", f"use {supported}")


def _webhook(context: Context, check: str, controller: _Controller, body: Dict) -> Finding:
    """Send an object as a dry run: any answer but "failed calling webhook" proves the webhook."""
    group = controller.group_version
    path = f"/apis/{group}/namespaces/{context.namespace}/{controller.resources[0]}"
    tried = f"created a {body['kind']} in {context.namespace} as a dry run"
    try:
        context.ask(path, body, dryRun="All")
    except AbsentError:
        return Finding(check, "skipped", tried, f"{body['kind']} is not known here")
    except ForbiddenError as error:
        if "denied the request" not in error.detail:
            return Finding(check, "skipped", tried, error.detail)
    except ApiError as error:
        if "webhook" in error.detail and error.status not in (400, 422):
            hint = "its controller does not answer: kubectl get pods -A | grep -E 'trainer|jobset'"
            return Finding(check, "bad", tried, error.detail, hint)
        if error.status not in (400, 422):
            return failed(check, error)
    return Finding(check, "ok", tried, "the webhook answers")


def _orphan_train_job(namespace: str) -> Dict:
    return {
        "apiVersion": _TRAINER.group_version,
        "kind": "TrainJob",
        "metadata": {"name": "kino-doctor", "namespace": namespace},
        "spec": {"runtimeRef": {"kind": "TrainingRuntime", "name": _NO_RUNTIME}},
    }


def _small_job_set(namespace: str) -> Dict:
    pod = {"restartPolicy": "Never", "containers": [{"name": "node", "image": "none"}]}
    job = {"parallelism": 1, "completions": 1, "template": {"spec": pod}}
    return {
        "apiVersion": _JOBSET.group_version,
        "kind": "JobSet",
        "metadata": {"name": "kino-doctor", "namespace": namespace},
        "spec": {"replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": job}}]},
    }


def check_monitoring(context: Context) -> list[Finding]:
    """Look for the custom resources of the Prometheus operator."""
    check, path = "monitoring", "/apis/monitoring.coreos.com/v1"
    if check in context.options.without:
        return [Finding(check, "skipped", "nothing", "left out (--without monitoring)")]
    tried = f"GET {path}"
    wanted = {"podmonitors", "prometheusrules"}
    try:
        served = {resource["name"] for resource in context.ask(path).get("resources", [])}
    except AbsentError:
        served = set()
    except ApiError as error:
        return [failed(check, error)]
    missing = sorted(wanted - served)
    if missing:
        found = f"custom resources {', '.join(missing)} of monitoring.coreos.com are not installed"
        hint = (
            "install the Prometheus operator, then helm upgrade; or let your Prometheus find the "
            "pods by annotation, and say --without monitoring"
        )
        return [Finding(check, "poor", tried, found, hint)]
    return [Finding(check, "ok", tried, "PodMonitor and PrometheusRule are known")]
