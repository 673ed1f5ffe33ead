"""Run a step to its end: skip it when it is done, supervise it, restart it where that helps."""

from __future__ import annotations

import logging
import subprocess
import sys
import time

from kinetoscope.core.errors import (
    DiskFullError,
    DivergedError,
    ExitCode,
    KinetoscopeError,
    PreemptedError,
    StalledError,
    UserError,
)
from kinetoscope.steps.contract import (
    StepResult,
    StepSpec,
    check_artifacts,
    read_result,
    read_status,
    stop_requested,
    write_spec,
)
from kinetoscope.steps.endings import untold_end

_RESTART_SECONDS = 1.0
_ERRORS: dict[int, type[KinetoscopeError]] = {
    ExitCode.USER_ERROR: UserError,
    ExitCode.DISK_FULL: DiskFullError,
    ExitCode.PREEMPTED: PreemptedError,
    ExitCode.STALLED: StalledError,
    ExitCode.DIVERGED: DivergedError,
}

_log = logging.getLogger(__name__)


def execute(spec: StepSpec) -> StepResult:
    """Return the step's committed result, running the step when there is none.

    Raises:
        CorruptError: a step that is done has lost what it made.
        KinetoscopeError: of the kind that the step's exit code tells, with its reason.
    """
    result = read_result(spec.uri)
    if result is not None:
        check_artifacts(result, spec.run_id)
        _log.info("%s: done before (%s), skipped", spec.name, spec.fingerprint)
        return result
    spec_uri = write_spec(spec)
    for restart in range(spec.runtime.max_restarts + 1):
        code = _supervise(spec_uri)
        result = read_result(spec.uri)
        if result is not None:
            return result
        if code not in (ExitCode.FAILED, ExitCode.STALLED) or stop_requested(spec):
            break
        if restart < spec.runtime.max_restarts:
            _log.warning("%s ended with code %d: starting it again", spec.name, code)
            time.sleep(_RESTART_SECONDS)
    raise _error(spec, code)


def _supervise(spec_uri: str) -> int:
    command = [sys.executable, "-m", "kinetoscope.steps.supervisor", spec_uri]
    code = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
    return code if code >= 0 else ExitCode.FAILED


def _error(spec: StepSpec, code: int) -> KinetoscopeError:
    status = read_status(spec.uri)
    if status and status.reason:
        reason, hint = status.reason, status.hint
    else:
        reason, hint = untold_end(code, f"ended with exit code {code} and no word of why")
    kind = _ERRORS.get(code, KinetoscopeError)
    return kind(reason, hint=hint or None)
