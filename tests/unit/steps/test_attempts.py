from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tiny.steps import step_spec

from kinetoscope.steps.attempts import Attempt, acquire, num_attempts
from kinetoscope.steps.contract import RESULT_KEY
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

SPEC = step_spec("toy", "toy_worker", "file:///nowhere", {}, run_id="rbbbbbbb")


def _store_with_a_dead_holder(folder: Path) -> ObjectStore:
    store = open_store(folder.as_uri())
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    holder = ProcessIdentity.of(process.pid)
    process.communicate()
    attempt = Attempt(generation=1, run_id="raaaaaaa", process=holder)
    store.put_bytes("attempts/000001.json", attempt.to_bytes())
    return store


def test_the_lease_of_a_dead_holder_is_taken_at_once(tmp_path: Path) -> None:
    store = _store_with_a_dead_holder(tmp_path)
    assert acquire(store, SPEC, lambda: False) == 2
    assert num_attempts(store) == 2


def test_a_holder_that_committed_and_ended_meanwhile_leaves_nothing_to_do(tmp_path: Path) -> None:
    store = _store_with_a_dead_holder(tmp_path)

    def commit_meanwhile() -> bool:
        store.put_bytes(RESULT_KEY, b"{}")
        return False

    assert acquire(store, SPEC, commit_meanwhile) is None
    assert num_attempts(store) == 1
