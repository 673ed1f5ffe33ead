"""Runs, curves and model versions in a real MLflow store (sqlite), from several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kinetoscope.core.errors import NotFoundError, UserError
from kinetoscope.storage.directory import DirectoryStore
from kinetoscope.tracking.registry import ModelRegistry
from kinetoscope.tracking.tracker import MetricRow, Tracker
from kinetoscope.tracking.versions import NewVersion

# Of MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def tracker(uri: str, tmp_path: Path) -> Tracker:
    return Tracker(uri, tmp_path / "artifacts")


def history(tracker: Tracker, tracked: str, key: str) -> list[tuple[int, float]]:
    found = tracker._client.get_metric_history(tracked, key)
    return [(metric.step, metric.value) for metric in found]


def rows(*steps: int, time: float = 1.0) -> list[MetricRow]:
    return [MetricRow(step=s, time=time, metrics={"train.loss": 1.0 / (s + 1)}) for s in steps]


def test_runs_and_steps_are_reopened_not_made_twice(
    tracker: Tracker, uri: str, tmp_path: Path
) -> None:
    parent = tracker.open_run("raaaaaa1", name="first", tags={"x": "1"}, params={"a": {"b": 1}})
    step = tracker.open_step(parent, "train_dit_1")
    tracker.finish(step, "FAILED")
    again = Tracker(uri, tmp_path / "artifacts")
    assert again.open_run("raaaaaa1", name="first", params={"a": {"b": 2}, "c": 3}) == parent
    assert again.open_step(parent, "train_dit_1") == step
    assert again.open_step(parent, "train_dit_2") != step
    assert again.find_run("rzzzzzzz") is None
    run = again._client.get_run(parent)
    assert run.data.params == {"a.b": "1", "c": "3"}
    assert again._client.get_run(step).info.status == "RUNNING"


def test_logging_rows_again_adds_nothing_even_from_a_new_process(
    tracker: Tracker, uri: str, tmp_path: Path
) -> None:
    parent = tracker.open_run("raaaaaa3", name="n")
    assert tracker.log_rows(parent, rows(0, 10, 20)) == 3
    assert tracker.log_rows(parent, rows(10, 20, 30)) == 1
    fresh = Tracker(uri, tmp_path / "artifacts")
    # A resumed step repeats what came after its last checkpoint, at other times.
    assert fresh.log_rows(parent, rows(20, 30, 40, time=9.0)) == 1
    expected = [(s, 1.0 / (s + 1)) for s in (0, 10, 20, 30, 40)]
    assert history(fresh, parent, "train.loss") == expected


def test_thousands_of_rows_go_in_batches(tracker: Tracker) -> None:
    parent = tracker.open_run("raaaaaa4", name="n")
    assert tracker.log_rows(parent, rows(*range(2500))) == 2500
    assert len(history(tracker, parent, "train.loss")) == 2500


def test_final_figures_and_artifacts_are_kept(tracker: Tracker, tmp_path: Path) -> None:
    parent = tracker.open_run("raaaaaa5", name="n")
    tracker.log_metrics(parent, {"vae.psnr": 33.0})
    tracker.log_metrics(parent, {"vae.psnr": 33.0})
    (tmp_path / "report.html").write_text("<p>")
    tracker.log_artifact(parent, tmp_path / "report.html")
    tracker.finish(parent)
    assert history(tracker, parent, "vae.psnr") == [(0, 33.0)]
    assert [item.path for item in tracker._client.list_artifacts(parent)] == ["report.html"]
    assert tracker._client.get_run(parent).info.status == "FINISHED"


@pytest.fixture
def registry(uri: str) -> ModelRegistry:
    return ModelRegistry(uri)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


def new(name: str, number: int, score: float = 0.5, run: str = "") -> NewVersion:
    return NewVersion(
        name=name,
        bundle_key=f"models/{name}/{number:016x}",
        bundle_digest=f"sha256:{number:064x}",
        tags={"kinetoscope.dev/run": run or f"r{number}"},
        scores={"adherence.all": score},
    )


def test_versions_are_found_by_name_number_and_alias(
    registry: ModelRegistry, store: DirectoryStore
) -> None:
    first, second = (
        registry.register_version(new("toy", number, score), store)
        for number, score in ((1, 0.5), (2, 0.975))
    )
    assert (first.version, second.version) == ("1", "2")
    assert registry.get_version("toy/1").aliases == ()
    assert registry.get_version("toy@candidate").version == "2"
    assert registry.get_version("toy").version == "2"  # no champion yet: the newest
    assert registry.champion("toy") is None
    promoted = registry.promote("toy/1", store)
    assert promoted.aliases == ("champion",)
    assert registry.get_version("toy").version == "1"
    assert registry.get_version("toy/2").scores == {"adherence.all": 0.975}
    assert registry.get_version("toy/2").tags == {"kinetoscope.dev/run": "r2"}
    assert [v.version for v in registry.list_models() if v.name == "toy"] == ["1", "2"]


def test_registering_the_same_bundle_of_the_same_run_again_finds_the_version(
    registry: ModelRegistry, store: DirectoryStore, tmp_path: Path
) -> None:
    first = registry.register_version(new("twice", 1), store)
    # The store's place does not count: the workspace may have been moved in between.
    moved = DirectoryStore(tmp_path / "moved" / "objects")
    assert registry.register_version(new("twice", 1), moved) == first
    other_run = registry.register_version(new("twice", 1, run="r9"), store)
    other_bytes = new("twice", 1).model_copy(update={"bundle_digest": f"sha256:{9:064x}"})
    assert other_run.version == "2"
    assert registry.register_version(other_bytes, store).version == "3"


def test_a_version_holds_no_place_but_its_source(
    registry: ModelRegistry, store: DirectoryStore
) -> None:
    registry.register_version(new("placeless", 1), store)
    version = registry.get_version("placeless/1")
    assert version.bundle_key == "models/placeless/0000000000000001"
    assert version.bundle_digest == f"sha256:{1:064x}"
    assert version.source == f"{store.uri}/{version.bundle_key}"
    keys = [stat.key for stat in store.list("registry/placeless")]
    assert len(keys) == 2  # the version's record and the copy of the aliases
    assert not any(store.uri in store.get_bytes(key).decode() for key in keys)


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("file:///old/objects/models/old/0123456789abcdef", "models/old/0123456789abcdef"),
        ("s3://bucket/a/models/old/0123456789abcdef", "models/old/0123456789abcdef"),
        ("file:///old/objects/models/other/0123456789abcdef", ""),
        ("file:///old/0123456789abcdef", ""),
    ],
)
def test_a_version_of_before_tells_its_key_by_its_source(
    registry: ModelRegistry, source: str, key: str
) -> None:
    if registry._model("old") is None:
        registry._client.create_registered_model("old")
    made = registry._client.create_model_version(
        "old", source, tags={"kinetoscope.dev/bundle-digest": "sha256:1"}
    )
    version = registry.get_version(f"old/{made.version}")
    assert (version.bundle_key, version.bundle_digest) == (key, "sha256:1")


def test_names_that_do_not_exist_say_what_does(
    registry: ModelRegistry, store: DirectoryStore
) -> None:
    registry.register_version(new("known", 1), store)
    for ref, told in (
        ("unknown", "no model named"),
        ("known/7", "no version 7"),
        ("known@champion", "no alias"),
    ):
        with pytest.raises(NotFoundError, match=told) as error:
            registry.get_version(ref)
        assert error.value.hint
    for ref in ("known/x", "@champion", "known@", ""):
        with pytest.raises(UserError, match="names no model version"):
            registry.get_version(ref)


SESSION = """
import sys
from pathlib import Path
from kinetoscope.storage.directory import DirectoryStore
from kinetoscope.tracking.registry import ModelRegistry
from kinetoscope.tracking.tracker import MetricRow, Tracker
from kinetoscope.tracking.versions import NewVersion

uri, artifacts, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
tracker = Tracker(uri, artifacts)
parent = tracker.open_run(f"rbbbbbb{number}", name="n")
step = tracker.open_step(parent, "train")
for start in range(0, 200, 10):
    rows = [MetricRow(step=s, time=1.0, metrics={"x": float(s)}) for s in range(start, start + 10)]
    tracker.log_rows(step, rows)
registry = ModelRegistry(uri)
new = NewVersion(name="shared", bundle_key=f"b/{number}", bundle_digest="sha256:1")
with registry.exclusive():
    registry.register_version(new, DirectoryStore(artifacts.parent / "objects"))
"""


def test_processes_that_start_at_once_on_a_fresh_database_all_succeed(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'fresh' / 'mlflow.db'}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SESSION, uri, str(tmp_path / "artifacts"), str(number)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    versions = ModelRegistry(uri).list_models()
    assert sorted(v.bundle_key for v in versions) == [f"b/{n}" for n in range(2)]
    tracker = Tracker(uri, tmp_path / "artifacts")
    for number in range(2):
        parent = tracker.find_run(f"rbbbbbb{number}")
        assert parent
        assert len(history(tracker, tracker.open_step(parent, "train"), "x")) == 200
