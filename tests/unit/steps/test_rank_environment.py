from __future__ import annotations

import pytest

from kinetoscope.core.errors import ConfigError, KinetoscopeError
from kinetoscope.steps.rank_environment import RankEnvironment, read_rank_environment, wait_for_host

TRAINER = {
    "PET_NNODES": "3",
    "PET_NPROC_PER_NODE": "2",
    "PET_NODE_RANK": "1",
    "PET_MASTER_ADDR": "job-node-0-0.job",
    "PET_MASTER_PORT": "29500",
}


def test_a_pod_of_several_ranks_has_to_start_them() -> None:
    ranks = read_rank_environment(TRAINER)
    assert ranks == RankEnvironment(6, 2, 2, None, "job-node-0-0.job", 29500)
    assert ranks.variables(1) == {
        "RANK": "3",
        "WORLD_SIZE": "6",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "job-node-0-0.job",
        "MASTER_PORT": "29500",
    }


def test_a_pod_of_one_rank_is_that_rank() -> None:
    ranks = read_rank_environment(TRAINER | {"PET_NPROC_PER_NODE": "1"})
    assert ranks == RankEnvironment(3, 1, 1, 0, "job-node-0-0.job", 29500)


def test_a_started_rank_reads_what_its_starter_wrote() -> None:
    starter = read_rank_environment(TRAINER)
    for local_rank in (0, 1):
        rank = read_rank_environment(TRAINER | starter.variables(local_rank))
        assert (rank.first_rank, rank.local_rank) == (2, local_rank)
        assert rank.variables(local_rank) == starter.variables(local_rank)


def test_without_any_variable_there_is_one_rank() -> None:
    assert read_rank_environment({}).world_size == 1


def test_one_rank_alone_needs_no_master() -> None:
    alone = {"PET_NNODES": "1", "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": "0"}
    assert read_rank_environment(alone).world_size == 1
    assert (
        read_rank_environment({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}).local_rank == 0
    )


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"PET_NPROC_PER_NODE": "auto"}, r"PET_NPROC_PER_NODE='auto' .* of 1 or more"),
        ({"PET_NNODES": "1:4"}, "PET_NNODES='1:4'"),
        ({"PET_NODE_RANK": "3"}, "PET_NODE_RANK='3' must be a whole number from 0 to 2"),
        ({"PET_MASTER_ADDR": ""}, "PET_MASTER_ADDR is missing"),
        ({"PET_MASTER_PORT": "70000"}, "from 1 to 65535"),
        ({"RANK": "0"}, "WORLD_SIZE is missing"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK='2' must be a whole number from 0 to 1"),
        (
            {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "2"},
            "LOCAL_RANK='2' must be a whole number from 0 to 1",
        ),
    ],
)
def test_wrong_variables_are_refused_by_name(changed: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_rank_environment(TRAINER | changed)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE='2' is set, and RANK is not"),
        ({"LOCAL_RANK": "1", "MASTER_ADDR": "a"}, "LOCAL_RANK='1' is set, and RANK is not"),
        ({"PET_NPROC_PER_NODE": "2"}, "PET_NPROC_PER_NODE='2' is set, and PET_NNODES is not"),
        ({"PET_NODE_RANK": "1"}, "PET_NODE_RANK='1' is set, and PET_NNODES is not"),
    ],
)
def test_half_of_what_tells_of_ranks_is_not_taken_for_being_alone(
    variables: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        read_rank_environment(variables)


def test_a_name_that_never_resolves_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KinetoscopeError, match=r"'nobody\.invalid', did not resolve within 0 s"):
        wait_for_host("nobody.invalid", timeout_seconds=0)


def test_an_address_needs_no_waiting() -> None:
    wait_for_host("127.0.0.1", timeout_seconds=0)
