"""The lease of a step: numbered attempts, of which the highest (its generation) may commit."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from kinetoscope.core.config_model import Record
from kinetoscope.core.errors import CorruptError, PreemptedError, SupersededError
from kinetoscope.steps.contract import RESULT_KEY, STATUS_KEY, StepSpec, StepStatus
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.storage.records import R, read_record
from kinetoscope.storage.store import ObjectStore

# A holder whose heartbeat does not change for so long is dead; it beats every 2 s.
LEASE_SECONDS = 60.0
_POLL_SECONDS = 0.5
_ATTEMPT = re.compile(r"attempts/(\d{6})\.json")

_log = logging.getLogger(__name__)


class Attempt(Record):
    """Who holds, or held, the lease."""

    generation: int
    run_id: str
    process: ProcessIdentity
    code_version: str = ""
    """What it ran."""


def num_attempts(store: ObjectStore) -> int:
    """Return how many attempts a step has had: the number of the latest generation."""
    return max(_numbers(store), default=0)


def check_generation(store: ObjectStore, generation: int) -> None:
    """Raise ``SupersededError`` when a later attempt has taken over."""
    latest = num_attempts(store)
    if latest != generation:
        raise SupersededError(
            f"attempt {generation} of {store.uri} was superseded by attempt {latest}"
        )


def code_versions(store: ObjectStore) -> tuple[str, ...]:
    """Return the versions of the code that worked on a step, oldest first."""
    attempts = [_read(store, _key(number), Attempt) for number in sorted(_numbers(store))]
    return tuple(dict.fromkeys(a.code_version for a in attempts if a and a.code_version))


def acquire(store: ObjectStore, spec: StepSpec, should_stop: Callable[[], bool]) -> int | None:
    """Take the lease, waiting for a living holder; return the generation.

    Returns None when the step has a committed result, so that there is nothing left to do.

    Args:
        store: the step's own store.
        spec: what the attempt is to run.
        should_stop: polled while waiting; raises ``PreemptedError`` when it answers True.
    """
    announced = 0
    while store.stat(RESULT_KEY) is None:
        latest = num_attempts(store)
        if latest and not _holder_is_gone(store, latest, should_stop):
            if announced != latest:
                _log.info("attempt %d of another run is at work: waiting for it", latest)
                announced = latest
            continue
        if store.stat(RESULT_KEY) is not None:  # the last thing that the holder did
            break
        attempt = Attempt(
            generation=latest + 1,
            run_id=spec.run_id,
            process=ProcessIdentity.of(),
            code_version=spec.code_version,
        )
        if store.put_bytes_if_absent(_key(attempt.generation), attempt.to_bytes()):
            return attempt.generation
    return None


def _numbers(store: ObjectStore) -> list[int]:
    found = (_ATTEMPT.fullmatch(stat.key) for stat in store.list("attempts"))
    return [int(match[1]) for match in found if match]


def _key(generation: int) -> str:
    return f"attempts/{generation:06d}.json"


def _holder_is_gone(store: ObjectStore, generation: int, should_stop: Callable[[], bool]) -> bool:
    """Watch the holder until it ends, is known dead, or loses its lease; True then.

    Returns False early, so that the caller looks afresh, when the result is there or another
    attempt began. Judges heartbeats by this process's clock alone: clocks of machines differ.
    """
    seen_beat = -1
    seen_at = time.monotonic()
    while time.monotonic() - seen_at < LEASE_SECONDS:
        if should_stop():
            raise PreemptedError(f"stopped while waiting for {store.uri}")
        looked_at = time.monotonic()
        status = _read(store, STATUS_KEY, StepStatus)
        mine = status is not None and status.generation == generation
        if mine and status is not None and status.state in ("failed", "stopped"):
            return True
        attempt = _read(store, _key(generation), Attempt)
        if attempt is not None and attempt.process.is_known_dead():
            return True
        if store.stat(RESULT_KEY) is not None or num_attempts(store) != generation:
            return False
        if mine and status is not None and status.heartbeat != seen_beat:
            seen_beat, seen_at = status.heartbeat, time.monotonic()
        else:
            # A store that answers late, perhaps after an outage, is not the holder's silence.
            seen_at += time.monotonic() - looked_at
        time.sleep(_POLL_SECONDS)
    return True


def _read(store: ObjectStore, key: str, kind: type[R]) -> R | None:
    # A damaged word of the holder says as little as none: its lease runs out.
    try:
        return read_record(store, key, kind)
    except CorruptError as error:
        _log.warning("%s", error.message)
        return None
