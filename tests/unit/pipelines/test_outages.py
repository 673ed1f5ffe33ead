"""Kubeflow's API, or the store, away for a while: what is told of a run stays as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tiny.kube_api import Answer, Api, serving, status

from kinetoscope.cli import submitting
from kinetoscope.core.errors import CorruptError, StorageError
from kinetoscope.kube import patience
from kinetoscope.kube.api_errors import AbsentError, ApiError, describe_call
from kinetoscope.pipelines.cluster.pipelines_api import PipelinesApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUNS = "/api/v1/namespaces/runs/services/ml-pipeline:8888/proxy/apis/v2beta1/runs"
AWAY = status(503, "ServiceUnavailable", "no endpoints available")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(patience, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(submitting, "_POLL_SECONDS", 0.01)
    return Api()


@pytest.fixture
def pipelines(api: Api, tmp_path: Path) -> Iterator[PipelinesApi]:
    with serving(api, tmp_path) as cluster:
        yield PipelinesApi(cluster)


def answers(api: Api, method: str, path: str, *given: Answer) -> None:
    left = list(given)
    api.answers[method, path] = lambda: left.pop(0) if len(left) > 1 else left[0]


def test_how_a_run_fares_is_asked_again(api: Api, pipelines: PipelinesApi) -> None:
    answers(api, "GET", f"{RUNS}/job", AWAY, AWAY, (200, {"state": "RUNNING"}))
    assert pipelines.run_state("job") == "RUNNING"
    assert len(api.sent("GET")) == 3


def test_a_run_is_started_once(api: Api, pipelines: PipelinesApi) -> None:
    answers(api, "POST", RUNS, AWAY, (200, {"run_id": "job"}))
    with pytest.raises(ApiError, match="no endpoints"):
        pipelines.create_run({})
    assert len(api.sent("POST")) == 1


def test_who_follows_a_run_looks_again(capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter([StorageError("the store is away")] * 3 + [False, True])

    def look() -> bool:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    submitting._wait_for(look)
    assert list(looks) == []
    assert capsys.readouterr().err.count("the store is away; looking again") == 1


CALL = describe_call("GET", "/apis/x")


@pytest.mark.parametrize("error", [AbsentError(CALL, "gone"), CorruptError("damaged")])
def test_what_stays_so_ends_the_look(error: Exception) -> None:
    def look() -> bool:
        raise error

    with pytest.raises(type(error)):
        submitting._wait_for(look)
