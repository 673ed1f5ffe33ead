"""What every check of a cluster gets: the connection, what to leave out, and until when."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from kinetoscope.core.findings import Finding
from kinetoscope.kube.api_errors import AbsentError, ApiError, describe_call
from kinetoscope.kube.connection import CONNECT_SECONDS, READ_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinetoscope.kube.connection import Cluster

Dict = dict[str, Any]

_JSON = {"Accept": "application/json", "Content-Type": "application/json"}
_LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for.

    Args:
        without: parts to leave out: pipelines, gpu, mlflow, monitoring, training.
        service_account: of the runs' steps; None reads it from the chart's RoleBinding.
        smoke_nodes: pods of the smoke training job.
        timeout_seconds: longest time for all checks together.
    """

    without: frozenset[str] = frozenset()
    service_account: str | None = None
    smoke_nodes: int = 2
    timeout_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Context:
    """One examination of one cluster.

    Args:
        cluster: the connection.
        options: what the user asked for.
        tell: shows a line of progress.
        started: on the monotonic clock, in seconds.
    """

    cluster: Cluster
    options: Options
    tell: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)

    @property
    def namespace(self) -> str:
        """Where the runs are."""
        return self.cluster.namespace

    def seconds_left(self) -> float:
        """Return what is left of the time for all checks."""
        return max(0.0, self.started + self.options.timeout_seconds - time.monotonic())

    def ask_text(
        self,
        path: str,
        body: Dict | None = None,
        *,
        method: str = "",
        impersonate: str = "",
        **query: str,
    ) -> str:
        """Call the API and return the answer as it came.

        Args:
            path: of the URL.
            body: an object to send; by default with POST.
            method: GET without a body, POST with one.
            impersonate: a user to act as.
            **query: parameters of the URL.

        Raises:
            ApiError: the subclass that fits.
        """
        seconds = max(1.0, min(READ_SECONDS, self.seconds_left()))
        answer, _, _ = self.cluster.api.call_api(
            f"{path}?{urlencode(query)}" if query else path,
            method or ("GET" if body is None else "POST"),
            header_params=_JSON | ({"Impersonate-User": impersonate} if impersonate else {}),
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=(CONNECT_SECONDS, seconds),
        )
        return str(answer.data.decode(errors="replace"))

    def ask(
        self,
        path: str,
        body: Dict | None = None,
        *,
        method: str = "",
        impersonate: str = "",
        **query: str,
    ) -> Dict:
        """Call the API and return the object that came back; like :meth:`ask_text`.

        Raises:
            ApiError: also when no object came back.
        """
        text = self.ask_text(path, body, method=method, impersonate=impersonate, **query)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            call = describe_call(method or ("POST" if body else "GET"), path)
            raise ApiError(call, f"no JSON object came back but {text[:_LONGEST_TEXT]!r}")
        return answer

    def find(self, path: str) -> Dict | None:
        """Return an object, or None where there is none; like :meth:`ask`."""
        try:
            return self.ask(path)
        except AbsentError:
            return None


def failed(check: str, error: ApiError, hint: str = "") -> Finding:
    """Return the finding of a check whose call of the API went wrong.

    Args:
        check: its name.
        error: what came back.
        hint: replaces the error's own.
    """
    default = "ask whoever runs the cluster; kubectl with the same rights shows the same"
    return Finding(check, "bad", str(error.call), error.detail, hint or error.hint or default)
