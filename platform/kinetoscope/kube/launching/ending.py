"""What the end of a training job means for its step."""

from __future__ import annotations

from kinetoscope.core.errors import ExitCode, KinetoscopeError, UserError
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.state import Observation
from kinetoscope.steps.contract import StepSpec
from kinetoscope.steps.endings import FREE
from kinetoscope.steps.ranks import worst_code
from kinetoscope.steps.results import step_state


def how_it_ended(
    spec: StepSpec, job: TrainingJob, seen: Observation
) -> ExitCode | KinetoscopeError | None:
    """Return the exit code of a job that is over without a result, or the error that it is.

    The code is one whose reason the supervisors have told. None: it was withdrawn since nobody gave
    it a sign of life, so a launcher that is there has it go on.
    """
    if seen.state == "succeeded":
        return KinetoscopeError(
            f"training job {job.name} succeeded, and the step has no result",
            hint="do its pods use another object store? compare KINO_STORE_URI there and here",
        )
    last = max((pod.attempt for pod in seen.failures), default=0)
    codes = [pod.exit_code for pod in seen.failures if pod.attempt == last]
    code = worst_code(codes, told_to_stop=True)
    if code == ExitCode.WITHDRAWN:
        return None
    # No job is over for a free end alone: there is another reason, such as its deadline.
    if code == ExitCode.DIVERGED or (_told_code(spec) == code and code not in FREE):
        return code
    reasons = "; ".join(dict.fromkeys(str(reason) for reason in seen.reasons))
    lines = next((pod.message for pod in seen.failures if pod.attempt == last and pod.message), "")
    hint = next((reason.hint for reason in seen.reasons if reason.hint), None)
    text = f"training job {job.name} failed: {reasons or 'no reason given'}"
    if lines:
        text += f"; its last lines: {' '.join(lines.split())[-500:]}"
    kind = UserError if code == ExitCode.USER_ERROR else KinetoscopeError
    return kind(text, hint=hint or "kino logs shows what the ranks wrote")


def _told_code(spec: StepSpec) -> int | None:
    """Return how the latest attempt ended, if it was one of ours and has said so."""
    state = step_state(spec.uri)
    is_own = state.is_at(spec.run_id, spec.start)
    return state.ended.code if is_own and state.ended is not None else None
