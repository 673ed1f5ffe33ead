"""A minute's training that shows whether a cluster can train.

``python -m kinetoscope.training.smoke.job`` is a pod's first process; the environment says which
ranks the pod has (``steps.rank_environment``). One rank it is itself, several it starts. Every rank
trains a few steps of the recipe ``smoke``'s transformer on drawn latents, with the trainer, plan,
objective and engine that a run has, and all ranks must end with the same weights. Local rank 0
serves metrics; rank 0 saves a checkpoint to ``$KINO_STORE_URI``, reads it back and deletes it. The
last line on stdout is a JSON object. Exit codes are those of every step (``core.errors``).
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import signal
import socket
import sys
import threading
from contextlib import closing
from typing import NoReturn, get_args

from kinetoscope.core.errors import ExitCode, KinetoscopeError
from kinetoscope.core.settings import (
    metrics_endpoint,
    rank_variables,
    set_rank_variables,
    threads_per_process,
)
from kinetoscope.steps.lifeline import exit_with_starter
from kinetoscope.steps.rank_environment import RankEnvironment, read_rank_environment, wait_for_host
from kinetoscope.steps.ranks import Ranks
from kinetoscope.steps.watch import watch
from kinetoscope.telemetry.logging_setup import setup_logging
from kinetoscope.training.engine.config import EngineName
from kinetoscope.training.smoke.stop_signal import StopSignal

# torch is imported by functions below: for seconds, in which SIGTERM has to be answered already,
# and not at all by a process that only starts ranks.

_MODULE = "kinetoscope.training.smoke.job"
_log = logging.getLogger("kinetoscope.smoke")


def main() -> int:
    """Run this process's ranks; return the exit code."""
    setup_logging()
    try:
        options = _options()
        ranks = read_rank_environment(rank_variables())
        if ranks.local_rank is None:
            return _run_node(options, ranks)
        return _run_rank(options, ranks)
    except KinetoscopeError as error:
        _log.error("%s%s", error.message, f" (hint: {error.hint})" if error.hint else "")
        return error.exit_code
    except Exception:  # the boundary of the process: told, logged, turned into a code
        _log.exception("the smoke job failed")
        return ExitCode.FAILED


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}")
    parser.add_argument("--engine", choices=get_args(EngineName), default="torch_ddp")
    parser.add_argument("--steps", type=_positive, default=3, help="optimizer steps")
    parser.add_argument(
        "--linger",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="go on serving metrics for so long after the last step; SIGTERM ends it early",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="end with code 76 when the work, without lingering, takes longer",
    )
    parser.add_argument(
        "--name", default=socket.gethostname(), help="of the job, in metrics and object keys"
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _run_node(options: argparse.Namespace, node: RankEnvironment) -> ExitCode:
    """Start every rank of the pod and return the worst code that one ended with.

    A rank that is told to stop looks after itself: it ends after its step, or by its watchdog.
    """
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    command = [_MODULE, *sys.argv[1:]]
    with closing(Ranks(command, node, threads=threads_per_process() or 0)) as ranks:
        return watch(ranks, should_stop=told.is_set, grace_seconds=options.timeout)


def _run_rank(options: argparse.Namespace, ranks: RankEnvironment) -> ExitCode:
    stop = StopSignal()
    exit_with_starter()
    watchdog = threading.Timer(options.timeout, _stalled, [options.timeout])
    watchdog.daemon = True
    watchdog.start()
    if ranks.world_size > 1:
        wait_for_host(ranks.master_address, timeout_seconds=options.timeout / 2)
    set_rank_variables(ranks.variables(ranks.own_local_rank))
    from kinetoscope.telemetry.training_metrics import TrainingMetrics
    from kinetoscope.training.smoke.rank import SmokeRequest, train_rank

    request = SmokeRequest(options.name, options.engine, options.steps)
    with TrainingMetrics(options.name, "smoke") as metrics:
        if ranks.local_rank == 0:
            # Before the ranks meet: whoever looks sees that the pod can be reached.
            address, port = metrics_endpoint()
            _log.info("metrics at %s", metrics.serve(port, address))
        report = train_rank(request, ranks, stop, metrics)
        watchdog.cancel()
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()
        stop.sleep(options.linger)
    return ExitCode.DONE


def _stalled(seconds: float) -> NoReturn:
    _log.error("not done after %g s: the stacks of all threads follow", seconds)
    faulthandler.dump_traceback(all_threads=True)
    os._exit(ExitCode.STALLED)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Skips interpreter teardown, where gloo's threads can hang or abort.
    os._exit(code)
