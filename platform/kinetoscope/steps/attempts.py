"""The lease of a step: who works on it, and when another one may."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from kinetoscope.core.errors import (
    CorruptError,
    DivergedError,
    PreemptedError,
    UserError,
)
from kinetoscope.core.settings import launch_id
from kinetoscope.steps.contract import ATTEMPTS, StepSpec, StepStatus, make_again, status_key
from kinetoscope.steps.endings import FREE
from kinetoscope.steps.ledger.entries import Attempt, LedgerState
from kinetoscope.steps.ledger.ledger import LEDGER, Ledger, ResultThereError
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.storage.records import read_record, shown_name
from kinetoscope.storage.store import ObjectStore

# A holder whose heartbeat does not change for so long is dead; it beats every 2 s.
LEASE_SECONDS = 60.0
_POLL_SECONDS = 0.5
# How often an attempt may end for free without having come further.
_MOST_IN_VAIN = 3
_OF_AN_EARLIER_VERSION = "attempts/000001.json"

_log = logging.getLogger(__name__)


class _LookAgainError(Exception):
    """Somebody else was first."""


def acquire(
    store: ObjectStore,
    spec: StepSpec,
    should_stop: Callable[[], bool],
    beginning: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> LedgerState:
    """Take the lease, waiting for a living holder; return the state with one's own attempt.

    Where the step has a result, there is nothing left to do: the state has it, and no new attempt.

    Args:
        store: the step's own store.
        spec: what the attempt is to run.
        should_stop: polled before and while waiting.
        beginning: wraps what begins the attempt, at the end of which it is begun, unless that
            raises.

    Raises:
        CorruptError: the step's ledger is damaged, or gone.
        PreemptedError: ``should_stop`` answered True; or what it raises.
        DivergedError: attempts of this start end again and again without having come further.
        UserError: a version of Kinetoscope that kept no ledger began the step.
    """
    ledger = Ledger(store)
    announced = 0
    while (state := ledger.state()).result is None:
        check_beginning(store, state, spec)
        if state.attempt and not _holder_is_gone(store, ledger, state.generation, should_stop):
            if announced != state.generation:
                _log.info("attempt %d of another run is at work: waiting", state.generation)
                announced = state.generation
            continue
        try:
            inherited = 0.0 if state.ended else _told_progress(store, state.generation)
            begin = _begin(spec, state.generation, inherited)
            _stop_if(should_stop, store)
            with beginning():
                return ledger.append(begin, state.generation + 1)
        except (_LookAgainError, ResultThereError):
            continue
    return state


def _begin(spec: StepSpec, generation: int, inherited: float) -> Callable[[LedgerState], Attempt]:
    def attempt(state: LedgerState) -> Attempt:
        if state.generation != generation:
            raise _LookAgainError
        if not inherited and (vain := in_vain(state, spec)) is not None:
            raise vain
        return Attempt(
            run_id=spec.run_id,
            start=spec.start,
            launch=launch_id(),
            process=ProcessIdentity.of(),
            code_version=spec.code_version,
            checkpoint=state.newest.prefix if state.newest else "",
            inherited=inherited,
        )

    return attempt


def check_beginning(store: ObjectStore, state: LedgerState, spec: StepSpec) -> None:
    """Refuse a step that was begun, and whose ledger has nothing of it.

    To begin anew there would take what was saved for leftovers, which are deleted.

    Raises:
        CorruptError: its ledger is gone.
        UserError: a version of Kinetoscope that kept no ledger began it.
    """
    if state.number:
        return
    again = make_again(spec.name, spec.run_id)
    if store.stat(_OF_AN_EARLIER_VERSION) is not None:
        raise UserError(
            f"step {spec.name} was begun by an earlier version, which alone can continue it",
            hint=f"end it with that version; or {again}",
        )
    # Another one may have begun it since the state was read.
    if (left := store.list(ATTEMPTS)) and not Ledger(store).state().number:
        raise CorruptError(
            f"{shown_name(store, LEDGER)} is gone, and {len(left)} objects of attempts are there",
            hint=f"put it back, and see whether something expires objects there "
            f"(docs/storage.md); or {again}",
        )


def in_vain(state: LedgerState, spec: StepSpec) -> DivergedError | None:
    """Return why there is no further attempt: a free one, after several that came to nothing."""
    count, ended = state.in_vain(spec.run_id, spec.start), state.ended
    if count < _MOST_IN_VAIN or (ended is not None and ended.code not in FREE):
        return None
    last = f"with code {ended.code}: {ended.reason}" if ended else "without a word"
    return DivergedError(
        f"{count} attempts of this start ended without having come further, the last {last}",
        hint=f"mend what ends them, then kino resume {spec.run_id}",
    )


def _holder_is_gone(
    store: ObjectStore, ledger: Ledger, generation: int, should_stop: Callable[[], bool]
) -> bool:
    """Watch the holder until it ends, is known dead, or loses its lease; True then.

    Returns False early, so that the caller looks afresh, when the result is there or another
    attempt began. Judges heartbeats by this process's clock alone: clocks of machines differ.
    """
    seen_beat = -1
    seen_at = time.monotonic()
    while time.monotonic() - seen_at < LEASE_SECONDS:
        _stop_if(should_stop, store)
        looked_at = time.monotonic()
        state = ledger.state()
        if state.generation != generation or state.result is not None:
            return False
        if state.ended is not None or (state.attempt and state.attempt.process.is_known_dead()):
            return True
        status = _read_status(store, generation)
        if status is not None and status.heartbeat != seen_beat:
            seen_beat, seen_at = status.heartbeat, time.monotonic()
        else:
            # A store that answers late, perhaps after an outage, is not the holder's silence.
            seen_at += time.monotonic() - looked_at
        time.sleep(_POLL_SECONDS)
    return True


def _stop_if(should_stop: Callable[[], bool], store: ObjectStore) -> None:
    if should_stop():
        raise PreemptedError(f"told to stop before an attempt of {store.uri} was begun")


def _told_progress(store: ObjectStore, generation: int) -> float:
    """Return what an attempt said last that it has added; not all that do are in the ledger."""
    status = _read_status(store, generation) if generation else None
    return status.progress.added if status else 0.0


def _read_status(store: ObjectStore, generation: int) -> StepStatus | None:
    # A damaged word of the holder says as little as none: its lease runs out.
    try:
        return read_record(store, status_key(generation), StepStatus)
    except CorruptError as error:
        _log.warning("%s", error.message)
        return None
