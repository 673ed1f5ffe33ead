"""A step that nobody waits for any more ends for good: all its pods with code 79."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny.ledgers import begin
from tiny.pods import MEETING_WORKER, Pods, end_all, running, start_pods, wait_until
from tiny.steps import place_worker, step_spec

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.contract import RuntimeConfig, StepSpec
from kinetoscope.steps.ledger.entries import Ended
from kinetoscope.steps.nodes.report import read_node_end
from kinetoscope.steps.results import read_status, step_state
from kinetoscope.storage.open import open_store

STOP_KEY = "runs/raaaaaaa/stop.json"
LAUNCHER_KEY = "runs/raaaaaaa/launcher"
PODS = [ExitCode.WITHDRAWN, ExitCode.WITHDRAWN]

MakeSpec = Callable[..., StepSpec]


@pytest.fixture
def make_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSpec:
    place_worker(tmp_path, monkeypatch, "meeting_worker", MEETING_WORKER)

    def make(num_nodes: int = 1, *, orphan_minutes: float = 15, **config: Any) -> StepSpec:
        return step_spec(
            "toy",
            "meeting_worker",
            (tmp_path / "objects").as_uri(),
            {"folder": str(tmp_path)} | config,
            stop_key=STOP_KEY,
            launcher_key=LAUNCHER_KEY,
            orphan_minutes=orphan_minutes,
            runtime=RuntimeConfig(num_nodes=num_nodes, threads_per_process=1),
        )

    return make


def codes(pods: Pods, seconds: float = 60) -> list[int]:
    return [pod.wait(seconds) for pod in pods]


def ask_to_stop(spec: StepSpec) -> None:
    open_store(spec.root_uri).put_bytes(STOP_KEY, b"{}")


def end_of(spec: StepSpec) -> Ended:
    """Return how the only attempt ended, as ledger, status and end.json tell it alike."""
    ended, status = step_state(spec.uri).ended, read_status(spec.uri)
    told = read_node_end(open_store(spec.uri), 1, 0)
    assert ended is not None
    assert status is not None
    assert told is not None
    assert status.state == "stopped"
    assert (status.code, status.reason) == (told.code, told.reason) == (ended.code, ended.reason)
    return ended


def test_a_step_whose_launcher_was_never_seen_saves_and_ends_for_good(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(2, orphan_minutes=0.1)
    with running(spec, tmp_path) as pods:
        assert codes(pods) == PODS
    ended = end_of(spec)
    assert ended.code == ExitCode.WITHDRAWN
    assert ended.reason == "no sign of life of the launcher for 0.1 minutes: it is saved"
    assert ended.told_to_stop


def test_a_launcher_counts_as_long_as_it_changes_its_object(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(orphan_minutes=0.05)
    store, is_over = open_store(spec.root_uri), threading.Event()

    def launcher() -> None:
        beat = 0
        while not is_over.wait(0.5):
            store.put_bytes(LAUNCHER_KEY, b"%d" % (beat := beat + 1))

    thread = threading.Thread(target=launcher)
    thread.start()
    try:
        with running(spec, tmp_path) as (pod,):
            time.sleep(8)
            assert pod.poll() is None
            is_over.set()
            assert codes([pod]) == [ExitCode.WITHDRAWN]
    finally:
        is_over.set()
        thread.join()


def test_a_stop_of_the_run_ends_all_pods_for_good_even_where_one_saves_for_longer(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(2, saves=6)
    with running(spec, tmp_path) as pods:
        ask_to_stop(spec)
        assert codes(pods) == PODS
    assert end_of(spec).reason == "the run is to stop: it is saved"


def test_a_stop_that_a_further_node_sees_first_is_one_for_good(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(2)
    with running(spec, tmp_path) as pods:
        pods[0].send_signal(signal.SIGSTOP)
        ask_to_stop(spec)
        wait_until(lambda: read_node_end(open_store(spec.uri), 1, 1) is not None)
        time.sleep(3)
        assert pods[1].poll() is None  # it waits for the word of the first
        pods[0].send_signal(signal.SIGCONT)
        assert codes(pods) == PODS
    assert end_of(spec).code == ExitCode.WITHDRAWN


def test_a_stop_that_the_ranks_hear_of_before_their_supervisor_is_one_for_good(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(asks_to_stop=STOP_KEY)
    with running(spec, tmp_path) as pods:
        assert codes(pods) == [ExitCode.WITHDRAWN]
    assert end_of(spec).told_to_stop


@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_alone_is_no_stop_for_good(make_spec: MakeSpec, tmp_path: Path, told: int) -> None:
    spec = make_spec(2)
    with running(spec, tmp_path) as pods:
        pods[told].terminate()
        assert codes(pods) == [ExitCode.PREEMPTED] * 2
    assert end_of(spec).reason == "it is saved"


def test_a_node_that_waits_for_the_word_of_the_first_still_hears_signals(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(2)
    with running(spec, tmp_path) as pods:
        pods[0].send_signal(signal.SIGSTOP)
        (tmp_path / "stop").touch()
        wait_until(lambda: read_node_end(open_store(spec.uri), 1, 1) is not None)
        time.sleep(2)
        assert pods[1].poll() is None
        pods[1].terminate()
        assert codes(pods[1:], 5) == [ExitCode.PREEMPTED]
        pods[0].send_signal(signal.SIGCONT)


@pytest.mark.parametrize("why", ["stop", "launcher"])
def test_who_waits_for_another_run_ends_for_good_without_an_attempt(
    make_spec: MakeSpec, why: str
) -> None:
    spec = make_spec(orphan_minutes=0.05 if why == "launcher" else 15)
    begin(open_store(spec.uri), run_id="rbbbbbbb")
    pods = start_pods(spec)
    try:
        time.sleep(1)
        if why == "stop":
            ask_to_stop(spec)
        assert codes(pods, 30) == [ExitCode.WITHDRAWN]
    finally:
        end_all(pods)
    assert step_state(spec.uri).generation == 1


def test_pods_that_are_made_anew_after_a_stop_begin_nothing(make_spec: MakeSpec) -> None:
    spec = make_spec(2)
    ask_to_stop(spec)
    pods = start_pods(spec, 2)
    try:
        assert codes(pods) == PODS
    finally:
        end_all(pods)
    assert step_state(spec.uri).generation == 0
