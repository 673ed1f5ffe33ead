"""The supervisor of a node: ``python -m kinetoscope.steps.supervisor SPEC_URI``.

Runs the node's ranks, passes SIGTERM on with a grace period of its own choosing, keeps the node's
status current, ships logs and metrics, and exits with the worst rank's code. The first node's takes
the step's lease. It is PID 1 of a training pod and the same command on a laptop.
"""

from __future__ import annotations

import logging
import sys

from kinetoscope.core.errors import ExitCode, KinetoscopeError, PreemptedError
from kinetoscope.core.full_disk import disk_full_or_raise
from kinetoscope.core.settings import rank_variables
from kinetoscope.steps.contract import read_spec
from kinetoscope.steps.nodes.leader import Leader
from kinetoscope.steps.nodes.member import Member
from kinetoscope.steps.rank_environment import supervised_ranks
from kinetoscope.telemetry.logging_setup import setup_logging

_log = logging.getLogger(__name__)


def main(spec_uri: str) -> ExitCode:
    """Run this node's part of one attempt of the step that a spec describes."""
    setup_logging()
    try:
        spec = read_spec(spec_uri)
        ranks = supervised_ranks(rank_variables(), spec.runtime.num_processes)
        kind = Leader if ranks.node == 0 else Member
        return kind(spec, spec_uri, ranks).run()
    except PreemptedError as error:
        _log.info("%s", error.message)
        return error.exit_code
    except KinetoscopeError as error:
        _log.error("%s", error.message)
        return error.exit_code
    except OSError as error:
        full = disk_full_or_raise(error)
        _log.error("%s", full.message)
        return full.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
