"""A run goes on with the steps that it has."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tiny.steps import commit

from kinetoscope.config.load import load_config
from kinetoscope.core.errors import ConfigError
from kinetoscope.core.hashing import canonical_json, digest_bytes
from kinetoscope.core.settings import workspace
from kinetoscope.runs.identity import weights_digests
from kinetoscope.runs.pins import pinned_spec
from kinetoscope.runs.record_types import RunRecord
from kinetoscope.runs.records import Run
from kinetoscope.runs.steps import planned_steps
from kinetoscope.steps.contract import StepSpec, VideosInput
from kinetoscope.storage.open import open_store

STEP = "train_spatial_vae"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "dit.safetensors"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def run(weights: Path) -> Run:
    config = load_config("smoke", [f"train_dit.0.init_weights={weights}"]).config
    steps = planned_steps(config)
    run = Run(workspace().store_uri, "raaaaaaa")
    config_json = canonical_json(config.to_json()).encode()
    record = RunRecord(
        run_id=run.run_id,
        name="smoke",
        created_at=1.0,
        videos=VideosInput(place="../videos", digest="sha256:0"),
        config_digest=digest_bytes(config_json),
        weights=weights_digests([step.piece for step in steps], workspace().digests_path),
        steps=[step.name for step in steps],
    )
    run.create(record, config_json, b"")
    return run


def prepared(run: Run, content: bytes = b"rows") -> str:
    """Commit a result of prepare_data with this content; return its URI."""
    uri = f"{run.root_uri}/steps/prepare_data/{digest_bytes(content)[7:23]}"
    open_store(uri).put_bytes("outputs/clips", content)
    commit(uri, {"clips": "outputs/clips"})
    return uri


def pinned(run: Run, content: bytes = b"rows") -> StepSpec:
    return pinned_spec(run, run.own_start(), run.config, STEP, {"clips": prepared(run, content)})


def test_a_run_s_config_keeps_its_digest_when_a_version_adds_keys(run: Run) -> None:
    stored = run.config.to_json()
    del stored["cluster"]
    config_json = canonical_json(stored).encode()
    older = Run(run.root_uri, "rbbbbbbb")
    changes = {"run_id": older.run_id, "config_digest": digest_bytes(config_json)}
    older.create(run.record.model_copy(update=changes), config_json, b"")
    assert pinned(run).origin["config-hash"] == run.record.config_digest
    assert pinned(older).origin["config-hash"] == digest_bytes(config_json)


def test_a_run_stays_where_it_is_whatever_code_has_changed(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = pinned(run)
    assert pinned(run) == first
    monkeypatch.setenv("KINO_CACHE_SOURCES", "0")
    with caplog.at_level(logging.INFO):
        later = pinned(run)
    assert later.key == first.key
    assert f"goes on at {first.key}" in caplog.text
    assert f"--fresh {STEP}" in caplog.text


def test_a_step_made_anew_has_a_place_of_its_own_and_the_old_one_is_remembered(run: Run) -> None:
    first = pinned(run)
    run.request_fresh(STEP)
    second = pinned(run)
    assert second.fingerprint == f"{first.fingerprint}-1"
    assert pinned(run).key == second.key
    run.request_fresh(STEP)
    assert pinned(run).fingerprint == f"{first.fingerprint}-2"
    record = run.step(STEP)
    assert record is not None
    assert record.before == (first.key, second.key)


def test_two_runs_that_make_a_step_anew_do_not_share_it(run: Run) -> None:
    other = Run(run.root_uri, "rbbbbbbb")
    other.create(run.record.model_copy(update={"run_id": "rbbbbbbb"}), run.config_json, b"")
    assert pinned(other).key == pinned(run).key
    for one in (run, other):
        one.request_fresh(STEP)
    assert pinned(other).key != pinned(run).key


def test_another_upstream_result_makes_another_step(run: Run) -> None:
    first = pinned(run)
    second = pinned(run, b"other rows")
    assert second.key != first.key
    assert pinned(run, b"other rows").key == second.key


def test_weights_that_changed_since_the_run_began_are_refused(run: Run, weights: Path) -> None:
    pinned(run)
    weights.write_bytes(b"changed")
    with pytest.raises(ConfigError, match=str(weights)):
        pinned(run)
    weights.unlink()
    with pytest.raises(ConfigError, match=str(weights)):
        pinned(run)


def test_a_spec_names_no_place(run: Run) -> None:
    stored = pinned(run).to_bytes().decode()
    assert run.root_uri not in stored
    assert str(workspace().root) not in stored
