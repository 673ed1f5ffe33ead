"""All checks of a cluster, in order; those that only read run side by side."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.core.findings import Finding
from kinetoscope.doctor.cluster.access import check_rights
from kinetoscope.doctor.cluster.chart_objects import TEMPLATE_CHECK, check_chart_objects
from kinetoscope.doctor.cluster.context import Context, Options
from kinetoscope.doctor.cluster.control_plane import check_api, check_monitoring, check_trainer
from kinetoscope.doctor.cluster.namespaces import CHECK as NAMESPACE_CHECK
from kinetoscope.doctor.cluster.namespaces import check_namespace
from kinetoscope.doctor.cluster.nodes import check_nodes
from kinetoscope.doctor.cluster.pipelines import check_pipelines
from kinetoscope.doctor.cluster.probe_pod import CHECK as PROBE_CHECK
from kinetoscope.doctor.cluster.probe_pod import check_from_inside
from kinetoscope.doctor.cluster.smoke import CHECK as SMOKE_CHECK
from kinetoscope.doctor.cluster.smoke import check_training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kinetoscope.kube.connection import Cluster

Check = tuple[str, "Callable[[Context], list[Finding]]"]

_READING: tuple[Check, ...] = (
    ("trainer", check_trainer),
    ("pipelines", check_pipelines),
    ("monitoring", check_monitoring),
    ("namespace", check_namespace),
    ("rights", check_rights),
    ("chart objects", check_chart_objects),
    ("nodes", check_nodes),
)
# What a pod of a run can't do without; the reason for not starting one is told already.
_NEEDED_BY_PODS = (NAMESPACE_CHECK, TEMPLATE_CHECK)
_NEEDED_BY_TRAINING = (
    "trainer",
    "jobset",
    "trainer webhook",
    "jobset webhook",
    "in-cluster object store",
)


def examine_cluster(
    cluster: Cluster, options: Options, tell: Callable[[str], None]
) -> list[Finding]:
    """Return what the checks found, always in the same order.

    Pods and jobs that are made on the way are deleted, also on Ctrl-C or SIGTERM.

    Args:
        cluster: to examine.
        options: what to leave out, how long to try.
        tell: shows a line of progress.
    """
    context = Context(cluster, options, tell)
    tell(f"examining {cluster.profile.way}, namespace {cluster.namespace}")
    with _terminated_like_ctrl_c():
        findings = _guarded(context, ("api", check_api))
        if findings[0].state == "bad":
            return findings
        with ThreadPoolExecutor(len(_READING)) as pool:
            for found in pool.map(lambda check: _guarded(context, check), _READING):
                findings += found
        findings += _unless_bad(
            context, (PROBE_CHECK, check_from_inside), findings, _NEEDED_BY_PODS
        )
        needed: tuple[str, ...] = (*_NEEDED_BY_PODS, *_NEEDED_BY_TRAINING, PROBE_CHECK)
        if "training" in options.without:
            needed = ()
        findings += _unless_bad(context, (SMOKE_CHECK, check_training), findings, needed)
    return findings


def _unless_bad(
    context: Context, check: Check, so_far: list[Finding], needed: tuple[str, ...]
) -> list[Finding]:
    """Run a check unless one that it stands on is bad: it would only wait and fail."""
    bad = [f.check for f in so_far if f.state == "bad" and f.check in needed]
    if bad:
        found = f"not tried, because of: {', '.join(bad)}"
        return [Finding(check[0], "skipped", "nothing", found, "mend these first")]
    return _guarded(context, check)


def _guarded(context: Context, check: Check) -> list[Finding]:
    name, run = check
    if context.seconds_left() <= 0:
        hint = "raise --timeout-seconds"
        return [Finding(name, "bad", "nothing", "the time for all checks was over", hint)]
    try:
        return run(context)
    except KinetoscopeError as error:
        return [Finding(name, "bad", f"checked {name}", error.message, error.hint or "")]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # An object of another shape than the API documents: told like any other finding.
        found = f"an answer that was not understood: {type(error).__name__}: {error}"
        hint = "please report it, with the output of --json"
        return [Finding(name, "bad", f"checked {name}", found, hint)]


@contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, so that what was made is deleted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
