"""Attempts of a step on this machine, started again where that helps."""

from __future__ import annotations

import logging
import time

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.contract import StepSpec, stop_requested
from kinetoscope.steps.nodes.launch import run_supervisors
from kinetoscope.steps.results import step_state

_RESTART_SECONDS = 1.0
_COUNTED = (ExitCode.FAILED, ExitCode.STALLED)

_log = logging.getLogger(__name__)


class LocalLauncher:
    """Runs a step's supervisors as children of this process."""

    def launch(self, spec: StepSpec, spec_uri: str) -> ExitCode:
        """Run attempts until there is a result, or another one would not help."""
        restarts_left = spec.runtime.max_restarts
        while True:
            before = step_state(spec.uri).generation
            code = run_supervisors(spec_uri, spec.runtime)
            if step_state(spec.uri).result is not None:
                return ExitCode.DONE
            if code == ExitCode.FAILED and _is_superseded(spec, before):
                _log.info("%s is another run's now: waiting for it", spec.name)
            elif code in _COUNTED and restarts_left:
                restarts_left -= 1
            elif code != ExitCode.LOST_PEER:  # which the attempts' own progress bounds
                return code
            if stop_requested(spec):
                return code
            _log.warning("%s ended with code %d: starting it again", spec.name, code)
            time.sleep(_RESTART_SECONDS)


def _is_superseded(spec: StepSpec, before: int) -> bool:
    """Tell whether another run, or start, has begun an attempt since that of a number."""
    state = step_state(spec.uri)
    return state.generation > before and not state.is_at(spec.run_id, spec.start)
