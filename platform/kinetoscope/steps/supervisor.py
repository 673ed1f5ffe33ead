"""The supervisor of a node: ``python -m kinetoscope.steps.supervisor SPEC_URI``.

Runs the node's ranks, passes SIGTERM on with a grace period of its own choosing, keeps the node's
status current, ships logs and metrics, and exits with the worst rank's code. The first node's takes
the step's lease. It is PID 1 of a training pod and the same command on a laptop.
"""

from __future__ import annotations

import os
import sys

from kinetoscope.steps.stop_signals import StopSignals


def main(spec_uri: str) -> int:
    """Run this node's part of one attempt of the step that a spec describes."""
    stop = StopSignals()
    stop.catch()
    # Not before: it takes up to a second, in which signals would be lost.
    from kinetoscope.steps.nodes.run import run_node

    return run_node(spec_uri, stop)


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    # Python's own end would let a signal end the process with another code.
    os._exit(code)
