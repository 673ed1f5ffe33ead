"""Launchers of one step through what others do meanwhile, on a cluster that is small and quick."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny.launchings import Stage, hurry

from kinetoscope.core.errors import ExitCode, SupersededError


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    hurry(monkeypatch)
    with Stage(tmp_path).open() as opened:
        yield opened
    assert opened.cluster.wrongs == []


def test_a_step_is_trained_and_nothing_is_left(stage: Stage) -> None:
    launching = stage.launch()
    stage.wait_for_end()
    assert launching.ended == ExitCode.DONE
    assert stage.state.result
    assert stage.cluster.train_jobs() == stage.cluster.runtimes() == []


def test_a_later_start_takes_over_from_one_whose_launcher_lives(stage: Stage) -> None:
    first = stage.launch()
    stage.wait_for(lambda: stage.cluster.sets, "pods")
    second = stage.launch(start=2)
    stage.wait_for_end(seconds=30)
    assert isinstance(first.ended, SupersededError)
    assert second.ended == ExitCode.DONE
    assert stage.cluster.train_jobs() == []
