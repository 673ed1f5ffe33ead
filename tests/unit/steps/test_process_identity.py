from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from kinetoscope.steps import process_identity
from kinetoscope.steps.process_identity import ProcessIdentity


def test_a_living_process_is_itself_when_its_start_time_is_off_by_a_second() -> None:
    mine = ProcessIdentity.of()
    assert not mine.is_known_dead()
    for seconds in (-1.0, 1.0):
        shifted = mine.model_copy(update={"started_at": mine.started_at + seconds})
        assert not shifted.is_known_dead()


def test_an_ended_process_and_a_later_one_with_its_number_are_told_from_it() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    identity = ProcessIdentity.of(process.pid)
    assert not identity.is_known_dead()
    process.communicate()
    assert identity.is_known_dead()
    reused = ProcessIdentity.of().model_copy(update={"started_at": 1.0})
    assert reused.is_known_dead()


def test_an_ended_process_of_which_nobody_took_note_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(process.pid)
    assert not identity.is_known_dead()
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert identity.is_known_dead()
    process.communicate()


def test_of_another_machine_nothing_is_known() -> None:
    elsewhere = ProcessIdentity(host="elsewhere", pid=1, started_at=0.0)
    assert not elsewhere.is_known_dead()


@pytest.mark.parametrize("what", ["boot_id", "pid_namespace", "pod_uid"])
def test_a_process_of_another_pod_or_boot_is_not_known_to_be_dead(what: str) -> None:
    # Its number, and that of nobody here: pods of a job share the host name.
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    gone = ProcessIdentity.of().model_copy(update={"pid": process.pid})
    assert gone.is_known_dead()
    assert not gone.model_copy(update={what: "another"}).is_known_dead()


def test_a_process_from_before_a_reboot_is_gone_but_one_of_another_container_may_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = ProcessIdentity.of()
    before = mine.model_copy(update={"boot_id": "another"})
    monkeypatch.setattr(process_identity, "_OF_THE_MACHINE", mine.pid_namespace)
    assert not mine.is_gone()
    assert before.is_gone()
    assert not before.is_known_dead()
    assert not before.model_copy(update={"pod_uid": "a"}).is_gone()
    monkeypatch.setattr(process_identity, "_OF_THE_MACHINE", "pid:[1]")
    assert not before.is_gone()
