"""``kino stop``: save and stop a run."""

from __future__ import annotations

from typing import Annotated

import typer

from kinetoscope.cli.verbs.options import On, Place, ProfileName, RunName, go_to

EXAMPLE = "Example: kino stop last"
_POLL_SECONDS = 0.5

Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait for the end.")
]


def stop(
    run: RunName = "last",
    timeout_seconds: Timeout = 180.0,
    on: On = Place.laptop,
    profile: ProfileName = None,
) -> None:
    """Ask a run to save and stop, and wait until it has."""
    import time

    from kinetoscope.cli.output import say
    from kinetoscope.core.errors import KinetoscopeError
    from kinetoscope.core.settings import workspace
    from kinetoscope.runs.find import find_run

    backend = go_to(on, profile)
    found = find_run(workspace().store_uri, run)
    run_id = found.run_id
    start = found.latest_start()
    if not start.is_running() and (backend is None or backend.is_over(start)):
        if start.has_vanished():  # should its host live, it saves and stops
            start.request_stop()
        say(f"run {run_id} does not run: {found.state()}")
        return
    start.request_stop()
    ends_at = time.monotonic() + timeout_seconds
    while start.is_running() if backend is None else not backend.is_over(start):
        if time.monotonic() >= ends_at:
            raise KinetoscopeError(
                f"run {run_id} did not stop within {timeout_seconds:g} s; it was asked to",
                hint=f"kino status {run_id} shows what it does",
            )
        time.sleep(_POLL_SECONDS)
    state = found.state()
    after = "" if state == "succeeded" else f"; kino resume {run_id} continues it"
    say(f"run {run_id}: {state}{after}")
