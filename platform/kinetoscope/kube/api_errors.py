"""Errors of the Kubernetes API: what was asked, what came back, what to do.

ClusterError                     1
|-- UnreachableError             1   no answer at all: address, network, TLS, time-out
|-- UnauthorizedError            2   401: nobody knows these credentials
|-- ForbiddenError               2   403: known, but not allowed (or an admission rule refused it)
|-- AbsentError                  2   404: no such object, or no such kind of object
|-- ConflictError                1   409: exists already, or changed meanwhile
|-- RefusedError                 2   400, 422: the object is not valid
+-- ApiError                     1   any other status
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kinetoscope.core.errors import ClusterError, ExitCode

if TYPE_CHECKING:
    from kubernetes.client.exceptions import ApiException

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_GROUP_PARTS = {"api": 2, "apis": 3}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API, in Kubernetes' words.

    Args:
        verb: get, list, create, update, patch or delete.
        resource: plural name with its group, e.g. ``trainjobs.trainer.kubeflow.org``; a
            subresource follows a slash (``pods/log``). Empty for ``/version`` and the like.
        name: of the object; empty for lists.
        namespace: empty for objects of the whole cluster.
        path: of the URL.
    """

    verb: str
    resource: str
    name: str
    namespace: str
    path: str

    def __str__(self) -> str:
        if not self.resource:
            return (
                f"GET {self.path}" if self.verb in ("get", "list") else f"{self.verb} {self.path}"
            )
        words = [self.verb, self.resource]
        if self.name:
            words.append(self.name)
        if self.namespace:
            words.append(f"in namespace {self.namespace}")
        return " ".join(words)


class ApiError(ClusterError):
    """The API answered with an error.

    Args:
        call: what was asked.
        detail: what came back.
        status: the HTTP status; 0 without an answer.
        reason: Kubernetes' word for it, such as ``AlreadyExists``.
        hint: what to do.
    """

    def __init__(
        self, call: Call, detail: str, *, status: int = 0, reason: str = "", hint: str | None = None
    ) -> None:
        super().__init__(f"{call}: {detail}", hint=hint)
        self.call = call
        self.detail = detail
        self.status = status
        self.reason = reason


class UnreachableError(ApiError):
    """No answer came."""


class UnauthorizedError(ApiError):
    """The credentials are not known or have expired."""

    exit_code = ExitCode.USER_ERROR


class ForbiddenError(ApiError):
    """The credentials may not do this, or a rule (quota, webhook, PodSecurity) refused it."""

    exit_code = ExitCode.USER_ERROR


class AbsentError(ApiError):
    """There is no such object, or the cluster does not know its kind."""

    exit_code = ExitCode.USER_ERROR


class ConflictError(ApiError):
    """The object exists already or has changed meanwhile."""


class RefusedError(ApiError):
    """The object is not valid, or a webhook said no."""

    exit_code = ExitCode.USER_ERROR


_BY_STATUS: dict[int, type[ApiError]] = {
    400: RefusedError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: AbsentError,
    409: ConflictError,
    422: RefusedError,
}


def describe_call(method: str, url: str) -> Call:
    """Return what a request of the Kubernetes API asks for."""
    path = urlsplit(url).path
    parts = [part for part in path.split("/") if part]
    skip = _GROUP_PARTS.get(parts[0] if parts else "", 0)
    group = parts[1] if skip == _GROUP_PARTS["apis"] and len(parts) > 1 else ""
    rest = parts[skip:] if skip else []
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":  # noqa: PLR2004 (namespaces/NS/RESOURCE)
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = [*rest, "", "", ""][:3]
    if resource:
        resource = ".".join(part for part in (resource, group) if part)
        resource = "/".join(part for part in (resource, subresource) if part)
    verb = _VERBS.get(method.upper(), "get" if name or not resource else "list")
    return Call(verb, resource, name, namespace, path)


def unreachable(call: Call, host: str, error: Exception) -> UnreachableError:
    """Return the error of a call that got no answer."""
    text = _cause(error)
    hint = f"is {host} the right address, reachable from here, and the cluster up?"
    if "CERTIFICATE" in text.upper() or "SSL" in text.upper():
        hint = f"give the CA that signed {host} as ca_file (or in the kubeconfig)"
    return UnreachableError(call, f"no answer from {host}: {text}", hint=hint)


def from_answer(call: Call, error: ApiException) -> ApiError:
    """Return the error of a call that was answered with an error status."""
    status = int(error.status or 0)
    reason, message = _status_object(error)
    kind = _BY_STATUS.get(status, ApiError)
    return kind(
        call,
        f"{status} {reason}" + (f": {message}" if message else ""),
        status=status,
        reason=reason,
        hint=_hint(call, status, message),
    )


def _hint(call: Call, status: int, message: str) -> str | None:
    if status == 401:  # noqa: PLR2004
        return "the credentials are wrong or expired: renew the token, or log in again"
    if status == 403:  # noqa: PLR2004
        if "is forbidden: User" not in message:  # an admission rule, not RBAC
            return None
        where = f" -n {call.namespace}" if call.namespace else ""
        return (
            f"kubectl auth can-i {call.verb} {call.resource}{where} says whether you may; the "
            "chart's Role for launchers goes to the ServiceAccounts in runNamespaces"
        )
    if status == 404 and not message:  # noqa: PLR2004 (of a known kind, the object is named)
        return f"the cluster does not know {call.resource}: its custom resource is not installed"
    return None


def _status_object(error: ApiException) -> tuple[str, str]:
    """Return (reason, message) of the Status object in the body of an error."""
    try:
        status = json.loads(error.body or "")
        reason, message = status.get("reason") or "", status.get("message") or ""
    except (ValueError, AttributeError, TypeError):
        return str(error.reason or ""), ""
    return str(reason or error.reason or ""), str(message)


def _cause(error: Exception) -> str:
    """Return the innermost reason of urllib3's nested errors, on one line."""
    reason = getattr(error, "reason", None) or error
    text = str(reason).rsplit(": ", 1)[-1] if isinstance(reason, Exception) else str(reason)
    return " ".join(text.split()) or type(error).__name__
