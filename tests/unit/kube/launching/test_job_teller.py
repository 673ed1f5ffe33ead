"""What a launcher tells the store of its job, and what it takes over from the one before."""

from __future__ import annotations

import dataclasses
import errno
import time
from pathlib import Path

import pytest
from tiny.kube_api import JOB
from tiny.memory_store import MemoryStore

from kinetoscope.kube.jobs.state import Observation, PodState, Reason
from kinetoscope.kube.launching.record import JobRecord, read_job_record
from kinetoscope.kube.launching.teller import JobTeller
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

KEY = "launchers/train.json"
OOM = PodState("p0", "u0", 0, 1, "Failed", False, 137, "OOMKilled", "last words", node="node-2")
PENDING = Observation(
    "pending", (), (Reason("unschedulable", "pod p1", "0/2 nodes"),), failures=(OOM,)
)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path.as_uri())


def read(store: ObjectStore) -> JobRecord:
    record = read_job_record(store, KEY)
    assert record is not None
    return record


def wait_for(store: ObjectStore, count: int) -> JobRecord:
    deadline = time.monotonic() + 30
    while (record := read_job_record(store, KEY)) is None or record.count < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return record


def test_a_job_is_told_with_its_reasons_and_with_what_restarts_have_deleted(
    store: ObjectStore,
) -> None:
    teller = JobTeller(store, KEY, JOB)
    teller.see("pending", PENDING)
    teller.close()
    record = read(store)
    assert (record.job, record.namespace, record.state) == ("train", "runs", "pending")
    assert [(r.kind, r.message) for r in record.reasons] == [("unschedulable", "0/2 nodes")]
    assert record.reasons[0].hint
    (failure,) = record.failures
    assert (failure.kind, failure.node, failure.restart) == ("out-of-memory", "node-2", 1)
    assert failure.last_lines == "last words"


def test_a_launcher_after_this_one_goes_on_with_count_and_failures(store: ObjectStore) -> None:
    first = JobTeller(store, KEY, JOB)
    first.see("pending", PENDING)
    first.close()
    before = read(store)
    second = JobTeller(store, KEY, JOB)
    other = dataclasses.replace(OOM, uid="u1", name="p1")
    second.see("running", Observation("running", failures=(OOM, other)))
    second.close()
    after = read(store)
    assert after.count > before.count
    assert [failure.uid for failure in after.failures] == ["u0", "u1"]


class FullStore(MemoryStore):
    """A store whose disk is full for a while."""

    is_full = True

    def put_bytes(self, key: str, data: bytes) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().put_bytes(key, data)


def test_a_launcher_gives_signs_of_life_again_when_a_full_disk_has_room() -> None:
    store = FullStore("memory://x")
    teller = JobTeller(store, KEY, JOB)
    teller.see("pending", PENDING)
    time.sleep(1.5)
    store.is_full = False
    assert wait_for(store, 1).state == "pending"
    teller.close()


def test_what_does_not_change_is_still_a_sign_of_life(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetoscope.kube.launching.teller._BEAT_SECONDS", 1.0)
    teller = JobTeller(store, KEY, JOB)
    teller.see("pending", PENDING)
    count = wait_for(store, 1).count
    assert wait_for(store, count + 2).reasons
    teller.close()


def test_a_damaged_record_says_as_little_as_none(store: ObjectStore) -> None:
    store.put_bytes(KEY, b"{}")
    assert read_job_record(store, KEY) is None
    teller = JobTeller(store, KEY, JOB)
    teller.see("running", Observation("running"))
    teller.close()
    assert read(store).state == "running"
