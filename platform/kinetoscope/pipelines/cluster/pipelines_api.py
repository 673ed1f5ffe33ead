"""Kubeflow Pipelines' own API, through the proxy of Kubernetes': one login for both."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

from kinetoscope.kube.api_errors import ApiError, describe_call
from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.patience import patiently

Dict = dict[str, Any]

_SERVICE = "ml-pipeline:8888"
_API = "apis/v2beta1"
_JSON = {"Accept": "application/json", "Content-Type": "application/json"}
_LONGEST_TEXT = 200
# It checks and stores what it is given, a pipeline of 100 KiB among it.
_SECONDS = (5, 60)
ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})


class PipelinesApi:
    """Runs of Kubeflow Pipelines; every call raises `ApiError`s only.

    Args:
        cluster: the connection.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._root = f"/api/v1/namespaces/{cluster.namespace}/services/{_SERVICE}/proxy/{_API}"

    def experiment(self, name: str) -> str:
        """Return the id of the experiment of that name, which is made where there is none."""
        equal = {"key": "display_name", "operation": "EQUALS", "string_value": name}
        wanted = urlencode({"filter": json.dumps({"predicates": [equal]})})
        found = self._call("GET", f"experiments?{wanted}").get("experiments") or []
        if found:
            return str(found[0]["experiment_id"])
        return str(self._call("POST", "experiments", {"display_name": name})["experiment_id"])

    def create_run(self, run: Dict) -> str:
        """Start a run; return its id."""
        return str(self._call("POST", "runs", run)["run_id"])

    def create_recurring_run(self, run: Dict) -> str:
        """Have runs started by the clock; return the id of what does so."""
        return str(self._call("POST", "recurringruns", run)["recurring_run_id"])

    def run_state(self, job_id: str) -> str:
        """Return the state of a run, e.g. ``RUNNING``; see `ENDED`."""
        return str(self._call("GET", f"runs/{quote(job_id)}").get("state", ""))

    def terminate(self, job_id: str) -> None:
        """End a run: its pods go within seconds."""
        self._call("POST", f"runs/{quote(job_id)}:terminate", {})

    def _call(self, method: str, path: str, body: Dict | None = None) -> Dict:
        url = f"{self._root}/{path}"

        def ask() -> Any:
            answer, _, _ = self._cluster.api.call_api(
                url,
                method,
                header_params=_JSON,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=_SECONDS,
            )
            return answer

        # What starts a run is asked once: an answer that was lost would be a second run.
        answer = patiently(ask) if method == "GET" else ask()
        text = answer.data.decode(errors="replace")
        try:
            told = json.loads(text or "{}")
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise ApiError(
                describe_call(method, url), f"no JSON came back but {text[:_LONGEST_TEXT]!r}"
            )
        return told
