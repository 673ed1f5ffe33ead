"""Run a step to its end: skip it when it is done, else let a launcher run its attempts."""

from __future__ import annotations

import logging
from typing import Protocol

from kinetoscope.core.errors import (
    DiskFullError,
    DivergedError,
    ExitCode,
    KinetoscopeError,
    LostPeerError,
    PreemptedError,
    StalledError,
    UserError,
    WithdrawnError,
)
from kinetoscope.steps.attempts import check_beginning, in_vain
from kinetoscope.steps.contract import StepResult, StepSpec, write_spec
from kinetoscope.steps.endings import untold_end
from kinetoscope.steps.nodes.local_launcher import LocalLauncher
from kinetoscope.steps.results import (
    check_artifacts,
    read_members,
    read_result,
    read_status,
    step_state,
)
from kinetoscope.storage.open import open_store

_ERRORS: dict[int, type[KinetoscopeError]] = {
    ExitCode.USER_ERROR: UserError,
    ExitCode.DISK_FULL: DiskFullError,
    ExitCode.PREEMPTED: PreemptedError,
    ExitCode.WITHDRAWN: WithdrawnError,
    ExitCode.STALLED: StalledError,
    ExitCode.DIVERGED: DivergedError,
    ExitCode.LOST_PEER: LostPeerError,
}

_log = logging.getLogger(__name__)


class Launcher(Protocol):
    """Runs the attempts of a step somewhere: on this machine, or in a job of a cluster."""

    def launch(self, spec: StepSpec, spec_uri: str) -> ExitCode:
        """Run supervisors of the step until it has a result, or none will come of it.

        Args:
            spec: of the step.
            spec_uri: where supervisors read it.

        Returns:
            The exit code that the last attempt came to; what else it told is in the store.

        Raises:
            KinetoscopeError: where it ended for a reason that no supervisor could tell.
        """


def execute(spec: StepSpec, launcher: Launcher | None = None) -> StepResult:
    """Return the step's committed result, running the step when there is none.

    Args:
        spec: of the step.
        launcher: runs its attempts; by default on this machine.

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
    check_beginning(open_store(spec.uri), step_state(spec.uri), spec)
    code = (launcher or LocalLauncher()).launch(spec, write_spec(spec))
    result = read_result(spec.uri)
    if result is None:
        raise _error(spec, code)
    return result


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
