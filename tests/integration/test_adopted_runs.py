"""Runs of MLflow that Kubeflow's MLflow integration made, and what the environment says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinetoscope.tracking.tracker import Tracker

# Of MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

RUN_TAG = "kinetoscope.dev/run"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def tracker(uri: str, tmp_path: Path) -> Tracker:
    return Tracker(uri, tmp_path / "artifacts")


@pytest.fixture
def experiment(tracker: Tracker, request: pytest.FixtureRequest) -> str:
    """An experiment of Kubeflow's."""
    return str(tracker._client.create_experiment(request.node.name))


@pytest.fixture
def in_task(
    uri: str, tmp_path: Path, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tracker, str]:
    """What a pod of a task has: a tracker, and the pipeline's run, in which is the task's."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    tracker = Tracker(uri, tmp_path / "artifacts")
    parent = tracker._client.create_run(experiment, run_name="pipeline").info.run_id
    name_task(tracker, experiment, parent, monkeypatch)
    return tracker, parent


def name_task(
    tracker: Tracker, experiment: str, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = {"mlflow.parentRunId": parent}
    task = tracker._client.create_run(experiment, run_name="task", tags=tags)
    monkeypatch.setenv("MLFLOW_RUN_ID", task.info.run_id)


def active(tracker: Tracker, run_id: str) -> list[str]:
    found = tracker._client.search_experiments()
    runs = tracker._client.search_runs(
        [one.experiment_id for one in found], f"tags.`{RUN_TAG}` = '{run_id}'"
    )
    return [run.info.run_id for run in runs]


def test_the_run_of_the_pipeline_is_adopted_and_not_that_of_the_task(
    in_task: tuple[Tracker, str], experiment: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker, parent = in_task
    assert tracker.open_run("raaaaaa1", name="n") == parent
    assert tracker.find_run("raaaaaa1") == parent
    step = tracker._client.get_run(tracker.open_step(parent, "train"))
    assert step.info.experiment_id == experiment
    assert tracker._client.get_run(parent).info.run_name == "pipeline"
    assert caplog.messages == []


def test_a_run_that_goes_on_in_another_pipeline_stays_the_same_run(
    in_task: tuple[Tracker, str],
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker, parent = in_task
    tracker.open_run("raaaaaa2", name="n")
    other = str(tracker._client.create_experiment("another"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", other)
    second = tracker._client.create_run(other).info.run_id
    name_task(tracker, other, second, monkeypatch)
    again = Tracker(uri, tmp_path / "artifacts")
    assert again.open_run("raaaaaa2", name="n") == parent
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.delenv("MLFLOW_RUN_ID")
    assert Tracker(uri, tmp_path / "artifacts").open_run("raaaaaa2", name="n") == parent
    assert RUN_TAG not in again._client.get_run(second).data.tags


def test_a_named_run_that_is_nested_in_none_is_adopted(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tracker._client.create_run(tracker._experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", named)
    assert tracker.open_run("raaaaaa3", name="n") == named
    assert tracker.open_run("raaaaaa3", name="n") == named


@pytest.mark.parametrize(
    "kind", ["no id", "unknown", "deleted", "elsewhere", "another's", "deleted parent"]
)
def test_a_named_run_that_can_not_be_adopted_is_told_of_once(
    kind: str,
    tracker: Tracker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, experiment = tracker._client, tracker._experiment
    named = client.create_run("0" if kind == "elsewhere" else experiment).info.run_id
    if kind == "another's":
        client.set_tag(named, RUN_TAG, "rzzzzzzz")
    monkeypatch.setenv("MLFLOW_RUN_ID", named)
    if kind == "deleted parent":
        name_task(tracker, experiment, named, monkeypatch)
    if kind.startswith("deleted"):
        client.delete_run(named)
    if kind in ("no id", "unknown"):
        monkeypatch.setenv("MLFLOW_RUN_ID", "../x" if kind == "no id" else "0" * 32)
    run_id = f"rbad{kind.replace(' ', '').replace(chr(39), '')[:8]}"
    own = tracker.open_run(run_id, name="n")
    assert own != named
    assert tracker.open_run(run_id, name="n") == own
    assert [r.levelname for r in caplog.records if "MLFLOW_RUN_ID" in r.message] == ["WARNING"]
    assert active(tracker, run_id) == [own]


@pytest.mark.parametrize("kind", ["unknown", "deleted", "no id"])
def test_a_named_experiment_that_is_not_there_is_told_of(
    kind: str,
    tracker: Tracker,
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracker._client.delete_experiment(experiment)
    named = {"unknown": "987654", "deleted": experiment, "no id": "our experiment"}[kind]
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", named)
    other = Tracker(tracker._uri)
    assert other._experiment == tracker._experiment
    assert "MLFLOW_EXPERIMENT_ID" in caplog.text
    assert other.open_run(f"rexp{kind[:3].strip()}aa", name="n")


def test_of_several_runs_the_oldest_stays_and_what_is_not_ours_is_never_deleted(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, experiment = tracker._client, tracker._experiment
    tags = {RUN_TAG: "rsevera1"}
    made = client.create_run(
        experiment, start_time=2000, tags={**tags, "kinetoscope.dev/made-here": "true"}
    ).info.run_id
    nested = tracker.open_step(made, "train")
    pipeline, later = (
        client.create_run(experiment, start_time=time, tags=tags).info.run_id
        for time in (1000, 3000)
    )
    assert tracker.find_run("rsevera1") == pipeline
    assert tracker.open_run("rsevera1", name="n") == pipeline
    assert active(tracker, "rsevera1") == [pipeline]
    stages = {run: client.get_run(run).info.lifecycle_stage for run in (made, nested, later)}
    assert stages == {made: "deleted", nested: "deleted", later: "active"}


def test_an_experiment_of_ours_that_was_deleted_is_restored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker = Tracker(uri, tmp_path / "artifacts")
    tracker._client.delete_experiment(tracker._experiment)
    again = Tracker(uri, tmp_path / "artifacts")
    assert again.open_run("raaaaaa9", name="n")
    assert "restoring" in caplog.text
