"""The step contract, with real supervisors and worker processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny.ledgers import begin
from tiny.small_disk import fill, small_disk
from tiny.steps import place_worker, start_supervisor, step_spec

from kinetoscope.core.errors import (
    CorruptError,
    DataError,
    DiskFullError,
    KinetoscopeError,
    NotFoundError,
    PreemptedError,
    UserError,
)
from kinetoscope.core.hashing import digest_json
from kinetoscope.runs.find import open_run
from kinetoscope.steps.contract import (
    RuntimeConfig,
    StepResult,
    StepSpec,
    StepStatus,
    status_key,
)
from kinetoscope.steps.execute import execute
from kinetoscope.steps.ledger.entries import Committed
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.results import read_result, read_status, step_state
from kinetoscope.storage.open import open_store

MakeSpec = Callable[..., StepSpec]

WORKER = """
import os, time, signal
from kinetoscope.core.errors import DataError, PreemptedError
from kinetoscope.steps.worker import Outputs, run_worker

def main(ctx):
    what = ctx.config["what"]
    print("rank", ctx.rank, "of", ctx.world_size)
    done = len(ctx.store.list("parts"))
    for part in range(done, ctx.config.get("parts", 1)):
        if ctx.stop_requested:
            raise PreemptedError("saved")
        if what == "slow":
            time.sleep(0.2)
        if what == "crash_once" and ctx.generation == 1 and part == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "bad":
            raise DataError("no clip is usable", hint="give other videos")
        if what == "bug":
            raise ValueError("seven")
        if what == "stopped_early":
            os._exit(75)
        if what == "fill_scratch":
            (ctx.scratch / "big").write_bytes(bytes(4 << 20))
        if what == "fill_store":
            ctx.store.put_bytes("big", bytes(4 << 20))
        if what == "hang":
            time.sleep(600)
        if what == "wait":
            for _ in range(60):
                ctx.waiting()
                time.sleep(0.2)
        if ctx.rank == 0:
            ctx.store.put_bytes(f"parts/{part}-of-attempt-{ctx.generation}", b"x")
            ctx.progress(part + 1, ctx.config["parts"], "parts")
            ctx.log_metrics({"toy.part": float(part)}, step=part)
    if ctx.rank:
        return None
    ctx.store.put_bytes("outputs/thing/a.txt", what.encode())
    return Outputs(artifacts={"thing": "outputs/thing"}, metrics={"toy.parts": 1.0})

if __name__ == "__main__":
    run_worker(main)
"""


@pytest.fixture
def make_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSpec:
    place_worker(tmp_path, monkeypatch, "toy_worker", WORKER)
    monkeypatch.setenv("KINO_STORE_URI", (tmp_path / "objects").as_uri())

    def make(run_id: str = "raaaaaaa", **given: Any) -> StepSpec:
        runtime = RuntimeConfig(**given.pop("runtime", {}))
        config = {"what": "plain", "parts": 3} | given
        return step_spec(
            "toy",
            "toy_worker",
            (tmp_path / "objects").as_uri(),
            config,
            run_id=run_id,
            seed=0,
            fingerprint=digest_json(config)[7:23],
            runtime=runtime,
            stop_key=f"runs/{run_id}/stop.json",
        )

    return make


def test_a_step_runs_once_and_is_found_done_after_that(make_spec: MakeSpec) -> None:
    spec = make_spec()
    first = execute(spec)
    assert open_store(first.artifact_uri("thing")).get_bytes("a.txt") == b"plain"
    assert execute(spec) == first
    assert step_state(spec.uri).generation == 1
    status = _status(spec)
    assert (status.state, status.code, status.progress.done) == ("done", 0, 3)
    assert open_store(spec.uri).get_bytes("attempts/000001/metrics.jsonl").count(b"\n") == 3


def test_a_result_that_has_lost_what_it_names_serves_nobody(make_spec: MakeSpec) -> None:
    spec = make_spec()
    store = open_store(execute(spec).uri)
    store.put_bytes("outputs/thing/a.txt", b"longer than it was")
    with pytest.raises(CorruptError, match="which step toy made, has another size"):
        execute(spec)
    store.delete_prefix("outputs/thing")
    with pytest.raises(CorruptError, match="which step toy made, is gone") as caught:
        execute(spec)
    assert "--fresh toy" in (caught.value.hint or "")


def test_a_step_that_can_t_be_begun_says_why(make_spec: MakeSpec) -> None:
    spec = make_spec()
    store = open_store(spec.uri)
    store.put_bytes("attempts/000001.json", b"{}")
    with pytest.raises(UserError, match="toy was begun by an earlier version") as caught:
        execute(spec)
    assert "kino resume raaaaaaa --fresh toy" in (caught.value.hint or "")


def test_two_ranks_make_one_result(make_spec: MakeSpec) -> None:
    spec = make_spec(runtime={"num_processes": 2})
    execute(spec)
    logs = [stat.key for stat in open_store(spec.uri).list("attempts/000001/logs")]
    assert logs == ["attempts/000001/logs/rank-0.log", "attempts/000001/logs/rank-1.log"]
    assert open_store(spec.uri).get_bytes(logs[1]) == b"rank 1 of 2\n"
    assert _generation(spec) == 1


def test_a_crashed_rank_is_restarted_and_goes_on_from_its_parts(make_spec: MakeSpec) -> None:
    spec = make_spec(what="crash_once", parts=4)
    execute(spec)
    parts = [stat.key for stat in open_store(spec.uri).list("parts")]
    assert parts == [
        "parts/0-of-attempt-1",
        "parts/1-of-attempt-1",
        "parts/2-of-attempt-2",
        "parts/3-of-attempt-2",
    ]


def test_wrong_input_is_told_and_not_tried_again(make_spec: MakeSpec) -> None:
    spec = make_spec(what="bad")
    with pytest.raises(UserError, match="no clip is usable") as caught:
        execute(spec)
    assert caught.value.hint == "give other videos"
    assert step_state(spec.uri).generation == 1
    assert _status(spec).code == DataError.exit_code


def test_a_bug_is_tried_again_within_the_budget(make_spec: MakeSpec) -> None:
    spec = make_spec(what="bug", runtime={"max_restarts": 1})
    with pytest.raises(KinetoscopeError, match="ValueError: seven"):
        execute(spec)
    assert step_state(spec.uri).generation == 2
    assert "seven" in open_store(spec.uri).get_bytes("attempts/000002/logs/rank-0.log").decode()


@pytest.mark.parametrize(("what", "where"), [("fill_scratch", "scratch"), ("fill_store", "store")])
def test_a_full_disk_is_told_and_not_tried_again(
    make_spec: MakeSpec, tmp_path: Path, what: str, where: str
) -> None:
    folder = tmp_path / "objects" if where == "store" else tmp_path / "workspace" / "scratch"
    with small_disk(folder):
        spec = make_spec(what=what)
        with pytest.raises(DiskFullError, match=rf"the disk of {tmp_path}\S+ is full") as caught:
            execute(spec)
        assert "kino rm old runs" in (caught.value.hint or "")
        assert step_state(spec.uri).generation == 1
        assert (_status(spec).state, _status(spec).code) == ("failed", 74)
        assert "is full" in _supervisor_log(spec)


def test_a_disk_too_full_to_begin_the_attempt_is_told_as_its_end(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "workspace" / "scratch") as disk:
        fill(disk)
        spec = make_spec()
        with pytest.raises(DiskFullError, match=rf"the disk of {disk}"):
            execute(spec)
    ended = step_state(spec.uri).ended
    assert ended is not None
    assert ended.code == DiskFullError.exit_code


def _supervisor_log(spec: StepSpec) -> str:
    return open_store(spec.uri).get_bytes("attempts/000001/logs/supervisor.log").decode()


def test_a_disk_full_to_the_last_byte_is_told_with_room_that_was_kept_for_it(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "objects") as disk:
        spec = make_spec(what="slow", parts=500)
        spec = spec.model_copy(update={"reserve_key": "reserve"})
        open_store(spec.root_uri).put_bytes("reserve", b"x" * 65536)
        supervisor = start_supervisor(spec)
        _wait_for_parts(spec, 1)
        fill(disk)
        assert supervisor.wait(60) == DiskFullError.exit_code
        (disk / "ballast").unlink()
        assert _status(spec).state == "failed"
        for told in (_status(spec).reason, _supervisor_log(spec)):
            assert f"the disk of {disk}" in told


def test_a_disk_that_others_fill_ends_the_step_with_a_code_that_says_so(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "objects") as disk:
        spec = make_spec(what="slow", parts=500)
        supervisor = start_supervisor(spec)
        _wait_for_parts(spec, 1)
        fill(disk)
        assert supervisor.wait(60) == DiskFullError.exit_code


def test_a_rank_that_is_stopped_before_it_can_say_so_is_told_to_be_stopped(
    make_spec: MakeSpec,
) -> None:
    spec = make_spec(what="stopped_early", runtime={"max_restarts": 0})
    with pytest.raises(PreemptedError, match="told to stop; what was saved before is kept"):
        execute(spec)


def test_a_step_that_makes_no_progress_is_stopped_with_its_stacks(make_spec: MakeSpec) -> None:
    spec = make_spec(what="hang", runtime={"stall_seconds": 1.0, "max_restarts": 0})
    with pytest.raises(KinetoscopeError, match="no progress"):
        execute(spec)
    assert (
        "toy_worker.py"
        in open_store(spec.uri).get_bytes("attempts/000001/logs/rank-0.log").decode()
    )
    assert _status(spec).code == 76


def test_waiting_for_other_ranks_is_no_stall(make_spec: MakeSpec) -> None:
    runtime = {"stall_seconds": 10.0, "max_restarts": 0}
    assert execute(make_spec(what="wait", parts=1, runtime=runtime)).metrics == {"toy.parts": 1.0}


def test_a_stop_request_saves_and_the_next_start_goes_on(make_spec: MakeSpec) -> None:
    spec = make_spec(what="slow", parts=25)
    run = open_run(f"{spec.root_uri}/runs/{spec.run_id}")
    supervisor = start_supervisor(spec)
    _wait_for_parts(spec, 2)
    run.latest_start().request_stop()
    assert supervisor.wait(30) == PreemptedError.exit_code
    assert _status(spec).state == "stopped"
    done = len(open_store(spec.uri).list("parts"))
    run.store.delete("stop.json")
    execute(spec)
    parts = [stat.key for stat in open_store(spec.uri).list("parts")]
    assert len(parts) == 25
    assert sum(key.endswith("attempt-1") for key in parts) == done


def test_ranks_die_with_their_supervisor_and_its_lease_is_free(
    make_spec: MakeSpec,
) -> None:
    spec = make_spec(what="slow", parts=10)
    supervisor = start_supervisor(spec)
    _wait_for_parts(spec, 1)
    ranks = psutil.Process(supervisor.pid).children()
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    assert psutil.wait_procs(ranks, timeout=10)[1] == []
    execute(spec)
    assert _generation(spec) == 2


def test_two_runs_that_need_the_same_step_make_it_once(make_spec: MakeSpec) -> None:
    spec, twin = make_spec(what="slow", parts=10), make_spec("rbbbbbbb", what="slow", parts=10)
    first = start_supervisor(spec)
    _wait_for_parts(spec, 1)
    result = execute(twin)
    assert first.wait(30) == 0
    assert result.generation == 1
    assert step_state(spec.uri).generation == 1


def test_a_superseded_attempt_commits_nothing(make_spec: MakeSpec) -> None:
    spec = make_spec(what="slow", parts=15, runtime={"max_restarts": 0})
    supervisor = start_supervisor(spec)
    _wait_for_parts(spec, 1)
    store = open_store(spec.uri)
    assert begin(store) == 2
    assert supervisor.wait(30) == 1
    assert read_result(spec.uri) is None


def test_a_run_that_was_superseded_waits_for_the_result_of_the_other(make_spec: MakeSpec) -> None:
    """As one whose machine was paused for longer than its lease."""
    spec = make_spec(what="slow", parts=100, runtime={"max_restarts": 0})
    store = open_store(spec.uri)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(execute, spec)
        _wait_for_parts(spec, 1)
        (supervisor,) = _supervisors()
        assert begin(store, run_id="rbbbbbbb") == 2
        while psutil.pid_exists(supervisor.pid):
            time.sleep(0.1)
        time.sleep(3)
        result = StepResult(step="toy", fingerprint=spec.fingerprint, generation=2, artifacts={})
        committed = Committed(result=result.model_dump(mode="json"))
        Ledger(store).append(lambda _: committed, 2)
        assert run.result(60).generation == 2


def test_what_an_earlier_attempt_told_is_not_the_end_of_a_later_one(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(runtime={"max_restarts": 0})
    store = open_store(spec.uri)
    begin(store)
    status = StepStatus(state="stopped", generation=1, code=75, reason="step 4 of 8 is saved")
    store.put_bytes(status_key(1), status.to_bytes())
    (tmp_path / "kinetoscope").mkdir()
    (tmp_path / "kinetoscope" / "__init__.py").write_text("raise SystemExit(1)")
    with pytest.raises(KinetoscopeError, match="exit code 1 and no word of why"):
        execute(spec)


def _supervisors() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [child for child in children if "kinetoscope.steps.supervisor" in child.cmdline()]


def test_a_launch_here_takes_nothing_of_its_own_starters_ranks(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("PET_NPROC_PER_NODE", "2")
    assert execute(make_spec()).generation == 1


def test_a_missing_artifact_is_named(make_spec: MakeSpec) -> None:
    with pytest.raises(NotFoundError, match="no artifact 'other', only"):
        execute(make_spec()).artifact("other")


def _status(spec: StepSpec) -> StepStatus:
    status = read_status(spec.uri)
    assert status is not None
    return status


def _generation(spec: StepSpec) -> int:
    result = read_result(spec.uri)
    assert result is not None
    return result.generation


def _wait_for_parts(spec: StepSpec, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(open_store(spec.uri).list("parts")) < count:
        assert time.monotonic() < deadline, "the step made no parts"
        time.sleep(0.05)
