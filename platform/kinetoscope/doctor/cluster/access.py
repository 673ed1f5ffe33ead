"""Rights: may the runs' ServiceAccount, and may we, do each thing that a run needs?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from kinetoscope.core.findings import Finding
from kinetoscope.doctor.cluster.context import Context, Dict, failed
from kinetoscope.kube.api_errors import ApiError, ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RUN_CHECK, USER_CHECK = "launcher rights", "your rights"

_REVIEWS = "/apis/authorization.k8s.io/v1"
_PARALLEL = 6


class Rule(NamedTuple):
    """One rule of a Role.

    Attributes:
        group: API group; empty for the core's.
        resources: plural names, with ``/subresource``.
        verbs: in Kubernetes' words.
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]


class Right(NamedTuple):
    """One thing that somebody may or may not do in the namespace of the runs."""

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        resource, _, subresource = self.resource.partition("/")
        full = f"{resource}.{self.group}" if self.group else resource
        full += f"/{subresource}" if subresource else ""
        return f"{self.verb} {full}"


_READ = ("get", "list", "watch")
_TRAINER = "trainer.kubeflow.org"

LAUNCHER_RULES = (
    Rule(_TRAINER, ("trainjobs", "trainingruntimes"), (*_READ, "create", "patch", "delete")),
    Rule("jobset.x-k8s.io", ("jobsets",), ("get", "list")),
    Rule("batch", ("jobs",), ("get", "list")),
    Rule("", ("pods",), _READ),
    Rule("", ("pods/log",), ("get",)),
    Rule("", ("events",), _READ),
    Rule("", ("configmaps",), ("get",)),
    Rule("kueue.x-k8s.io", ("workloads",), ("get", "list", "patch")),
    Rule("argoproj.io", ("workflows",), ("get", "watch")),
)
"""What a run needs; the chart's Role for launchers grants just this."""

USER_RULES = (
    *LAUNCHER_RULES,
    Rule("", ("pods",), ("create", "delete")),
    Rule("", ("pods/proxy",), ("get",)),
)
"""What ``kino`` needs on somebody's own account: a launcher's rights, and the doctor's pod."""


def rights(rules: Iterable[Rule]) -> list[Right]:
    """Return every single right that rules grant, such as those of :data:`LAUNCHER_RULES`."""
    return [
        Right(verb, rule.group, resource)
        for rule in rules
        for resource in rule.resources
        for verb in rule.verbs
    ]


def check_rights(context: Context) -> list[Finding]:
    """Ask for each right of the runs' ServiceAccount, and of ourselves."""
    return [_launcher(context), _user(context)]


def _launcher(context: Context) -> Finding:
    binding = binding_name(context)
    wanted = rights(LAUNCHER_RULES)
    try:
        account = context.options.service_account or first_account(find_binding(context) or {})
    except ForbiddenError as error:
        hint = "name the ServiceAccount of the runs' steps with --service-account"
        return Finding(RUN_CHECK, "skipped", str(error.call), error.detail, hint)
    except ApiError as error:
        return failed(RUN_CHECK, error)
    upgrade = (
        f"add namespace {context.namespace} to runNamespaces in the chart's values, and helm "
        f"upgrade {context.cluster.release}"
    )
    if account is None:
        tried = f"read RoleBinding {binding} in {context.namespace}"
        return Finding(RUN_CHECK, "bad", tried, "no RoleBinding for a ServiceAccount", upgrade)
    tried = f"SubjectAccessReview of {len(wanted)} rights for {context.namespace}/{account}"
    try:
        missing = missing_rights(context, account)
    except ForbiddenError:
        return Finding(
            RUN_CHECK,
            "skipped",
            tried,
            f"not asked for {account}: we may not create SubjectAccessReviews",
            "let somebody who may do so run the doctor; your own rights were asked instead",
        )
    except ApiError as error:
        return failed(RUN_CHECK, error)
    hint = f"Role and RoleBinding {binding} lack it: {upgrade}"
    return _finding(RUN_CHECK, tried, missing, f"{account} may all {len(wanted)}", hint)


def missing_rights(context: Context, account: str) -> list[Right]:
    """Return which of a launcher's rights a ServiceAccount of the runs' namespace lacks.

    Raises:
        ApiError: the subclass that fits, e.g. when we may not ask for others' rights.
    """
    wanted = rights(LAUNCHER_RULES)
    return _missing(wanted, lambda right: _may_account(context, account, right))


def _user(context: Context) -> Finding:
    wanted = rights(USER_RULES)
    tried = f"SelfSubjectAccessReview of {len(wanted)} rights in {context.namespace}"
    try:
        missing = _missing(wanted, lambda right: _may_self(context, right))
    except ApiError as error:
        return failed(USER_CHECK, error)
    hint = f"ask for these in namespace {context.namespace}; the runs' own steps have theirs"
    finding = _finding(USER_CHECK, tried, missing, f"you may all {len(wanted)}", hint)
    return finding._replace(state="poor") if finding.state == "bad" else finding


def _finding(check: str, tried: str, missing: list[Right], fine: str, hint: str) -> Finding:
    if not missing:
        return Finding(check, "ok", tried, fine)
    return Finding(check, "bad", tried, f"missing: {', '.join(map(str, missing))}", hint)


def _missing(wanted: list[Right], may: Callable[[Right], bool]) -> list[Right]:
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return [right for right, yes in zip(wanted, pool.map(may, wanted), strict=True) if not yes]


def binding_name(context: Context) -> str:
    """Return the name of the chart's RoleBinding that gives a launcher's rights."""
    return f"{context.cluster.fullname}-launcher"


def find_binding(context: Context) -> Dict | None:
    """Return that RoleBinding in the namespace of the runs, or None where there is none.

    Raises:
        ApiError: the subclass that fits, e.g. when it may not be read.
    """
    group = "/apis/rbac.authorization.k8s.io/v1"
    return context.find(
        f"{group}/namespaces/{context.namespace}/rolebindings/{binding_name(context)}"
    )


def first_account(binding: Dict) -> str | None:
    """Return the first ServiceAccount among the subjects of a RoleBinding."""
    subjects = binding.get("subjects") or []
    names = [subject["name"] for subject in subjects if subject["kind"] == "ServiceAccount"]
    return names[0] if names else None


def _may_account(context: Context, account: str, right: Right) -> bool:
    namespace = context.namespace
    spec = {
        "user": f"system:serviceaccount:{namespace}:{account}",
        "groups": [
            "system:serviceaccounts",
            f"system:serviceaccounts:{namespace}",
            "system:authenticated",
        ],
    }
    return _review(context, "SubjectAccessReview", right, spec)


def _may_self(context: Context, right: Right) -> bool:
    return _review(context, "SelfSubjectAccessReview", right, {})


def _review(context: Context, kind: str, right: Right, spec: Dict) -> bool:
    resource, _, subresource = right.resource.partition("/")
    attributes = {
        "namespace": context.namespace,
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": kind,
        "spec": {**spec, "resourceAttributes": attributes},
    }
    answer = context.ask(f"{_REVIEWS}/{kind.lower()}s", body)
    return bool(answer["status"].get("allowed"))
