"""Run a step to its end: skip it when it is done, supervise it, restart it where that helps."""

from __future__ import annotations

import logging
import time

from kinetoscope.core.errors import (
    DiskFullError,
    DivergedError,
    ExitCode,
    KinetoscopeError,
    LostPeerError,
    PreemptedError,
    StalledError,
    UserError,
)
from kinetoscope.steps.attempts import check_beginning, in_vain
from kinetoscope.steps.contract import StepResult, StepSpec, stop_requested, write_spec
from kinetoscope.steps.endings import untold_end
from kinetoscope.steps.nodes.launch import run_supervisors
from kinetoscope.steps.results import (
    check_artifacts,
    read_members,
    read_result,
    read_status,
    step_state,
)
from kinetoscope.storage.open import open_store

_RESTART_SECONDS = 1.0
_COUNTED = (ExitCode.FAILED, ExitCode.STALLED)
_ERRORS: dict[int, type[KinetoscopeError]] = {
    ExitCode.USER_ERROR: UserError,
    ExitCode.DISK_FULL: DiskFullError,
    ExitCode.PREEMPTED: PreemptedError,
    ExitCode.STALLED: StalledError,
    ExitCode.DIVERGED: DivergedError,
    ExitCode.LOST_PEER: LostPeerError,
}

_log = logging.getLogger(__name__)


def execute(spec: StepSpec) -> StepResult:
    """Return the step's committed result, running the step when there is none.

    Raises:
        CorruptError: a step that is done has lost what it made; or its ledger is damaged, or gone.
        KinetoscopeError: of the kind that the step's exit code tells, with its reason.
    """
    result = read_result(spec.uri)
    if result is not None:
        check_artifacts(result, spec.run_id)
        _log.info("%s: done before (%s), skipped", spec.name, spec.fingerprint)
        return result
    # Looked at here, too: what a supervisor refuses before it has an attempt is told nowhere.
    before = step_state(spec.uri)
    check_beginning(open_store(spec.uri), before, spec)
    spec_uri = write_spec(spec)
    restarts_left = spec.runtime.max_restarts
    while True:
        code = run_supervisors(spec_uri, spec.runtime)
        result = read_result(spec.uri)
        if result is not None:
            return result
        if code == ExitCode.FAILED and _is_superseded(spec, before.generation):
            _log.info("%s is another run's now: waiting for it", spec.name)
        elif code in _COUNTED and restarts_left:
            restarts_left -= 1
        elif code != ExitCode.LOST_PEER:  # which the attempts' own progress bounds
            break
        if stop_requested(spec):
            break
        _log.warning("%s ended with code %d: starting it again", spec.name, code)
        time.sleep(_RESTART_SECONDS)
        before = step_state(spec.uri)
    raise _error(spec, code)


def _is_superseded(spec: StepSpec, before: int) -> bool:
    """Tell whether another run, or start, has begun an attempt since that of a number."""
    state = step_state(spec.uri)
    latest = state.attempt
    is_own = latest is None or (latest.run_id, latest.start) == (spec.run_id, spec.start)
    return state.generation > before and not is_own


def _error(spec: StepSpec, code: int) -> KinetoscopeError:
    state = step_state(spec.uri)
    if code == ExitCode.DIVERGED and (vain := in_vain(state, spec)) is not None:
        return vain
    status = read_status(spec.uri, state)
    nodes = [status, *read_members(spec.uri, status)] if status else []
    told = next((node for node in nodes if node.code == code and node.reason), None)
    if told is not None:
        reason, hint = told.reason, told.hint
    else:
        reason, hint = untold_end(code, f"ended with exit code {code} and no word of why")
    kind = _ERRORS.get(code, KinetoscopeError)
    return kind(reason, hint=hint or None)
