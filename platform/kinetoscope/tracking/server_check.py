"""Is an MLflow server fit? Asked over its REST interface: importing MLflow takes ten seconds."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import replace
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from kinetoscope.core.errors import StorageError
from kinetoscope.core.findings import Finding

if TYPE_CHECKING:
    from kinetoscope.core.mlflow_variables import MlflowAccess

HEALTH, ROUND_TRIP = "mlflow", "mlflow round trip"
EXPERIMENT = "kino-doctor"

_TIMEOUT_SECONDS = 10.0
_LONGEST_TEXT = 200
_TAG = "probe"
# Another doctor may delete the experiment between two of our calls.
_ATTEMPTS = 3


class _RefusedError(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text


def examine_server(access: MlflowAccess) -> list[Finding]:
    """Ask for the server's health; then write to an experiment, read it back and delete it.

    Args:
        access: the server and what it asks for.
    """
    url = _shown(access.uri)
    tried = f"GET {url}/health"
    try:
        _ask(access, "GET", "/health")
    except (OSError, _RefusedError) as error:
        return [Finding(HEALTH, "bad", tried, _told(error), _hint(error, url))]
    healthy = Finding(HEALTH, "ok", tried, "OK")
    tried = f"tagged experiment {EXPERIMENT} at {url}, read the tag back, deleted the experiment"
    try:
        _write_and_read(access)
    except (OSError, _RefusedError, ValueError, KeyError) as error:
        return [healthy, Finding(ROUND_TRIP, "bad", tried, _told(error), _hint(error, url))]
    return [healthy, Finding(ROUND_TRIP, "ok", tried, "the tag came back")]


def refuse_unreachable(access: MlflowAccess) -> None:
    """Look whether a server answers at all before MLflow's client does, which tries for minutes.

    Args:
        access: the server; what it answers does not matter here.

    Raises:
        StorageError: nobody answers there.
    """
    url = _shown(access.uri)
    try:
        _ask(replace(access, uri=url), "GET", "/health")
    except _RefusedError:
        return
    except (OSError, HTTPException) as error:
        told = f"MLflow at {url} does not answer: {_told(error)}"
        raise StorageError(told, hint=_hint(error, url)) from error


def _write_and_read(access: MlflowAccess) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            experiment = _experiment(access)
            value = uuid4().hex
            body = {"experiment_id": experiment, "key": _TAG, "value": value}
            _api(access, "POST", "set-experiment-tag", body)
            answer = _api(access, "GET", "get", {"experiment_id": experiment})
            tags = {tag["key"]: tag["value"] for tag in answer["experiment"].get("tags", [])}
            if len(tags.get(_TAG, "")) != len(value):
                raise ValueError(f"the tag did not come back: {tags}")
            _api(access, "POST", "delete", {"experiment_id": experiment})
        except _RefusedError as error:
            raced = "INVALID_PARAMETER_VALUE" in error.text or "DOES_NOT_EXIST" in error.text
            if not raced or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _experiment(access: MlflowAccess) -> str:
    """Return the id of the doctor's experiment, made or restored."""
    try:
        known = _api(access, "GET", "get-by-name", {"experiment_name": EXPERIMENT})["experiment"]
    except _RefusedError as error:
        if "RESOURCE_DOES_NOT_EXIST" not in error.text:
            raise
        return str(_api(access, "POST", "create", {"name": EXPERIMENT})["experiment_id"])
    if known.get("lifecycle_stage") == "deleted":
        _api(access, "POST", "restore", {"experiment_id": known["experiment_id"]})
    return str(known["experiment_id"])


def _api(access: MlflowAccess, method: str, name: str, values: dict[str, str]) -> dict[str, Any]:
    path = f"/api/2.0/mlflow/experiments/{name}"
    if method == "GET":
        text = _ask(access, method, f"{path}?{urlencode(values)}")
    else:
        text = _ask(access, method, path, json.dumps(values).encode())
    answer = json.loads(text)
    if not isinstance(answer, dict):
        raise ValueError(f"{path} answered {text[:_LONGEST_TEXT]!r}: not MLflow")
    return answer


def _ask(access: MlflowAccess, method: str, path: str, body: bytes | None = None) -> str:
    request = urllib.request.Request(  # noqa: S310 - the URI's scheme is checked by the caller
        access.uri.rstrip("/") + path,
        data=body,
        method=method,
        headers={"Content-Type": "application/json", **access.headers()},
    )
    context = ssl.create_default_context(cafile=access.ca_file)
    if access.insecure_tls:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(  # noqa: S310
            request, timeout=_TIMEOUT_SECONDS, context=context
        ) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            raise _RefusedError(error.code, error.read().decode(errors="replace")) from None


def _told(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(f"{reason}".split())[:_LONGEST_TEXT] or type(error).__name__


def _hint(error: Exception, url: str) -> str:
    host = urlsplit(url).netloc
    if isinstance(error, _RefusedError):
        if "Host header" in error.text:
            return (
                f"MLflow refuses the name {host}: add it to mlflow.allowedHosts in the chart's "
                "values (or MLFLOW_SERVER_ALLOWED_HOSTS of the server)"
            )
        if error.status in (401, 403):
            return (
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN (in the chart: the Secret mlflow.auth.existingSecret)"
            )
        return "read the MLflow server's log; after an upgrade it may want: mlflow db upgrade"
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLError):
        return "name the CA's file in MLFLOW_TRACKING_SERVER_CERT_PATH"
    if isinstance(error, OSError):
        return f"is MLFLOW_TRACKING_URI right, is the server's pod Ready, may we reach {host}?"
    return "is MLFLOW_TRACKING_URI the address of an MLflow server?"


def _shown(uri: str) -> str:
    """Return the URI without a user or a password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
