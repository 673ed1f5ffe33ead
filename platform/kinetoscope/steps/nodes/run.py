"""Running a node's part of an attempt, and turning its end into an exit code."""

from __future__ import annotations

import logging

from kinetoscope.core.errors import ExitCode, KinetoscopeError, PreemptedError
from kinetoscope.core.full_disk import disk_full_or_raise
from kinetoscope.core.settings import rank_variables, stop_file
from kinetoscope.steps.contract import read_spec
from kinetoscope.steps.nodes.leader import Leader
from kinetoscope.steps.nodes.member import Member
from kinetoscope.steps.rank_environment import supervised_ranks
from kinetoscope.steps.stop_signals import StopSignals
from kinetoscope.telemetry.logging_setup import setup_logging

_log = logging.getLogger(__name__)


def run_node(spec_uri: str, stop: StopSignals) -> ExitCode:
    """Run this node's part of one attempt of the step that a spec describes.

    Args:
        spec_uri: of the spec.
        stop: caught since the process began.
    """
    setup_logging()
    stop.watch_file(stop_file())
    try:
        if stop.told:
            raise PreemptedError("told to stop before anything was begun")
        spec = read_spec(spec_uri)
        ranks = supervised_ranks(rank_variables(), spec.runtime.num_processes)
        kind = Leader if ranks.node == 0 else Member
        return kind(spec, spec_uri, ranks, stop).run()
    except PreemptedError as error:
        _log.info("%s", error.message)
        return error.exit_code
    except KinetoscopeError as error:
        _log.error("%s", error.message)
        # What fails at its begin and is told to stop meanwhile has nothing to be tried again.
        is_stopped = error.exit_code == ExitCode.FAILED and stop.told
        return ExitCode.PREEMPTED if is_stopped else error.exit_code
    except OSError as error:
        full = disk_full_or_raise(error)
        _log.error("%s", full.message)
        return full.exit_code
