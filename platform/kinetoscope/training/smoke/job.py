"""A minute's training that shows whether a cluster can train: ``python -m ...smoke.job``.

One process per rank; the environment says which (``steps.rank_environment``). Every rank trains a
few steps of the recipe ``smoke``'s transformer on drawn latents, through the real plan, objective
and engine, and all ranks must end with the same weights. Local rank 0 serves metrics; rank 0 writes
a checkpoint to ``$KINO_STORE_URI``, reads it back and deletes it. The last line on stdout is a JSON
object. Exit codes are those of every step (``core.errors``).
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import socket
import sys
import threading
from typing import NoReturn

from kinetoscope.core.errors import ExitCode, KinetoscopeError
from kinetoscope.core.settings import metrics_endpoint, rank_variables, set_rank_variables
from kinetoscope.steps.rank_environment import RankEnvironment, read_rank_environment, wait_for_host
from kinetoscope.telemetry.logging_setup import setup_logging
from kinetoscope.training.local_ranks import run_local_ranks
from kinetoscope.training.smoke.stop_signal import StopSignal

# torch is imported by functions below: for seconds, in which SIGTERM has to be answered already,
# and not at all by a process that only starts ranks.

_ENGINES = {"torch": "torch_ddp", "colossalai": "colossalai_ddp"}
_GRACE_SECONDS = 30.0
_log = logging.getLogger("kinetoscope.smoke")


def main() -> int:
    """Run this process's ranks; return the exit code."""
    setup_logging()
    try:
        options = _options()
        ranks = read_rank_environment(rank_variables())
        if ranks.local_rank is None:
            command = ["-m", "kinetoscope.training.smoke.job", *sys.argv[1:]]
            return run_local_ranks(ranks, command, grace_seconds=_GRACE_SECONDS)
        return _run_rank(options, ranks, ranks.local_rank)
    except KinetoscopeError as error:
        _log.error("%s%s", error.message, f" (hint: {error.hint})" if error.hint else "")
        return error.exit_code
    except Exception:  # the boundary of the process: told, logged, turned into a code
        _log.exception("the smoke job failed")
        return ExitCode.FAILED


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kinetoscope.training.smoke.job")
    parser.add_argument("--engine", choices=sorted(_ENGINES), default="torch")
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


def _run_rank(options: argparse.Namespace, ranks: RankEnvironment, local_rank: int) -> int:
    stop = StopSignal()
    watchdog = threading.Timer(options.timeout, _stalled, [options.timeout])
    watchdog.daemon = True
    watchdog.start()
    if ranks.world_size > 1:
        wait_for_host(ranks.master_address, timeout_seconds=options.timeout / 2)
    set_rank_variables(ranks.variables(local_rank))
    from kinetoscope.telemetry.training_metrics import TrainingMetrics
    from kinetoscope.training.smoke.training import SmokeRequest, train_smoke

    request = SmokeRequest(
        name=options.name,
        engine=_ENGINES[options.engine],  # type: ignore[arg-type]  # the values are engines' names
        num_steps=options.steps,
        rank=ranks.first_rank + local_rank,
        world_size=ranks.world_size,
        local_rank=local_rank,
    )
    with TrainingMetrics(options.name, "smoke") as metrics:
        url = None
        if local_rank == 0:
            address, port = metrics_endpoint()
            url = metrics.serve(port, address)
            _log.info("metrics at %s", url)
        report = {**train_smoke(request, stop, metrics), "metrics_url": url}
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
