"""Whoever starts the pipeline, and however often its first task is tried, there is one run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny.runs import STEPS, new_run, set_running

from kinetoscope.config.load import load_config
from kinetoscope.core.errors import ConfigError, DataError, NotFoundError, RefusedError, UserError
from kinetoscope.core.hashing import canonical_json
from kinetoscope.core.ids import new_run_id, run_id_of
from kinetoscope.core.settings import workspace
from kinetoscope.runs.find import find_run, list_runs
from kinetoscope.runs.record_types import BEGIN, End
from kinetoscope.runs.records import Run
from kinetoscope.runs.steps import planned_steps
from kinetoscope.runs.tasks.begin_run import begin_run
from kinetoscope.runs.tasks.finish_run import finish_run
from kinetoscope.runs.tasks.graph import graph_of
from kinetoscope.runs.view import run_rows

JOB = "39ccf4a6-0f35-4c1f-9d0b-3f6f0a1f2c11"
OTHER_JOB = "b45a8aad-7c1e-4a3b-8a55-6f2b86a0c9de"
CONFIG = load_config("smoke").config
TEXT = canonical_json(CONFIG.to_json())
GRAPH = graph_of(CONFIG)
WITHOUT_A_STAGE = graph_of(CONFIG.model_copy(update={"train_vae": CONFIG.train_vae[:1]}))


@pytest.fixture
def videos(tmp_path: Path) -> str:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"not looked into here")
    return str(folder)


def begin(videos: str = "", *, job: str = JOB, **other: str) -> Run:
    given = {"config": TEXT, "resume_of": "", "fresh": "", "graph": GRAPH, **other}
    uri = begin_run(job, videos=videos, **given)
    return Run(workspace().store_uri, uri.rpartition("/")[2])


def finished(run: Run) -> Run:
    run.latest_start().finish(End(state="failed", step=STEPS[0], code=1))
    return run


def test_a_job_has_one_run_and_one_start_however_often_it_is_begun(videos: str) -> None:
    first, again = begin(videos), begin(videos)
    assert first.run_id == again.run_id == run_id_of(JOB)
    assert first.num_starts() == 1
    record = first.latest_start().record
    assert record is not None
    assert (record.job_id, first.state()) == (JOB, "running")
    assert find_run(workspace().store_uri, JOB).run_id == first.run_id
    assert begin(videos, job=OTHER_JOB).run_id != first.run_id


def test_an_id_made_of_a_job_looks_like_any_other() -> None:
    assert len(run_id_of(JOB)) == len(new_run_id())
    assert {run_id_of(f"{JOB}{number}")[0] for number in range(50)} == {"r"}
    assert len({run_id_of(f"{JOB}{number}") for number in range(500)}) == 500


def test_one_that_is_begun_again_after_its_end_gets_a_start_of_its_own(videos: str) -> None:
    run = finished(begin(videos))
    assert begin(videos).num_starts() == 2
    assert run.state() == "running"


def test_a_config_may_be_named_by_its_uri(videos: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(TEXT)
    assert begin(videos, config=(tmp_path / "config.json").as_uri()).config == CONFIG


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"config": "smoke"}, ConfigError, "config is 'smoke': it must be a resolved config"),
        ({"config": "file:///nowhere/config.json"}, ConfigError, "there is no config at file:///"),
        ({"config": '{"name": "x"}'}, ConfigError, "is not a valid config"),
        ({"config": "{"}, ConfigError, "no JSON"),
        ({"videos": ""}, ConfigError, "no videos are given"),
        ({"videos": "/nowhere/at/all"}, DataError, "/nowhere/at/all"),
        ({"graph": WITHOUT_A_STAGE}, ConfigError, "another pipeline"),
    ],
)
def test_what_is_refused_leaves_a_record_that_says_why(
    videos: str, given: dict[str, str], error: type[UserError], told: str
) -> None:
    arguments = {"videos": videos, **given}
    with pytest.raises(error) as caught:
        begin(**arguments)
    assert told in caught.value.message
    run = Run(workspace().store_uri, run_id_of(JOB))
    assert finish_run(JOB, "") == "refused"
    with pytest.raises(RefusedError, match="never began"):
        run.record  # noqa: B018
    (row,) = run_rows(workspace().store_uri)
    assert (row["run"], row["state"]) == (run.run_id, "refused")
    assert caught.value.message in row["reason"]
    # Tried again with what it lacked, it begins.
    assert begin(videos).state() == "running"
    assert [found.run_id for found in list_runs(workspace().store_uri)] == [run.run_id]


def test_a_first_task_without_a_word_is_told_by_the_last_one() -> None:
    assert finish_run(JOB, "") == "refused"
    refusal = Run(workspace().store_uri, run_id_of(JOB)).refusal()
    assert refusal is not None
    assert (refusal.step, "without a word" in refusal.reason) == (BEGIN, True)


def test_a_config_of_another_graph_is_told_by_what_differs(videos: str) -> None:
    other = load_config("smoke", ["cluster.other.memory=8Gi"]).config
    with pytest.raises(ConfigError, match=r"register_model \(pod\)"):
        begin(videos, graph=graph_of(other))


def test_training_jobs_may_differ_in_one_pipeline() -> None:
    other = load_config("smoke", ["cluster.training.memory=8Gi", "seed=7"]).config
    assert graph_of(other) == GRAPH


@pytest.fixture
def ended() -> Run:
    steps = [step.name for step in planned_steps(CONFIG)]
    run = new_run("raaaaaaa", config_json=TEXT.encode(), steps=steps)
    set_running(run)
    return finished(run)


def test_a_run_goes_on_in_a_start_of_the_job(ended: Run) -> None:
    run = begin(resume_of=ended.run_id, fresh="train_vae_1, evaluate_dit")
    assert run.run_id == ended.run_id
    assert begin(resume_of=ended.run_id).num_starts() == 2
    assert run.fresh_requested("train_vae_1")
    assert run.fresh_requested("evaluate_dit")


def test_a_later_job_takes_a_run_over(ended: Run) -> None:
    begin(resume_of=ended.run_id)
    begin(resume_of=ended.run_id, job=OTHER_JOB)
    assert ended.start(2).stop_requested()
    assert finish_run(JOB, ended.run_id) == "running"
    assert ended.end() is None


@pytest.mark.parametrize(
    "given", [{"fresh": "train"}, {"graph": "{}"}, {"videos": "/nowhere/at/all"}]
)
def test_what_a_run_can_not_go_on_with_ends_the_start(ended: Run, given: dict[str, str]) -> None:
    with pytest.raises(UserError) as caught:
        begin(resume_of=ended.run_id, **given)
    assert finish_run(JOB, ended.run_id) == "failed"
    end = ended.end()
    assert end is not None
    assert (end.step, end.code, end.reason) == (BEGIN, 2, caught.value.message)


def test_a_run_that_is_not_there_can_not_go_on() -> None:
    with pytest.raises(NotFoundError, match="there is no run 'rnowhere'"):
        begin(resume_of="rnowhere")
    assert finish_run(JOB, "rnowhere") == "refused"
    assert list_runs(workspace().store_uri) == []


def test_on_a_laptop_the_run_is_there_and_has_begun(
    ended: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_running(ended)
    monkeypatch.setenv("KINO_RUN_START", "2")
    assert begin(job="12345678", resume_of=ended.run_id).num_starts() == 2
