"""What happens to machines, stores and files costs a training nothing (`tiny.faults`)."""

from __future__ import annotations

import pytest
from tiny.faults.cases import CASES, SHORT
from tiny.faults.stage import Stage
from tiny.kills import draw_kills, train_under_kills

NUM_KILLS = 30


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("faults"))


@pytest.fixture(autouse=True)
def _workspace(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINO_WORKSPACE", str(stage.folder / "workspace"))


@pytest.mark.parametrize(
    "name",
    [name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def test_a_fault_loses_nothing(name: str, stage: Stage) -> None:
    assert CASES[name](stage).lost == ()


@pytest.mark.parametrize(
    ("num_nodes", "num_ranks", "num_kills"),
    [
        (1, 1, 2),
        pytest.param(1, 1, NUM_KILLS, marks=pytest.mark.slow),
        pytest.param(1, 2, NUM_KILLS, marks=pytest.mark.slow),
        pytest.param(1, 4, NUM_KILLS, marks=pytest.mark.slow),
        pytest.param(2, 2, NUM_KILLS, marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(7200)
def test_a_training_that_is_killed_all_the_time_ends_with_the_same_bits(
    num_nodes: int, num_ranks: int, num_kills: int, stage: Stage
) -> None:
    with stage.job(
        f"killed-{num_nodes}-{num_ranks}-{num_kills}",
        num_ranks,
        num_nodes=num_nodes,
        num_steps=10 * num_kills + 40,
    ) as job:
        kills = draw_kills(num_kills, job.spec)
        assert train_under_kills(job, kills, stage.undisturbed(job.spec)) == []
