"""Run a run to its end before the user's eyes, and say how it ended."""

from __future__ import annotations

from contextlib import suppress

from kinetoscope.cli.live import display
from kinetoscope.cli.output import emit_json, say
from kinetoscope.cli.overview import overview
from kinetoscope.core.errors import CorruptError, ExitCode, KinetoscopeError
from kinetoscope.core.settings import workspace
from kinetoscope.pipelines.local import Host
from kinetoscope.runs.record_types import End
from kinetoscope.runs.records import Run
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.summary import run_summary
from kinetoscope.runs.view import interruption


def follow(run: Run, *, as_json: bool, after: int = 0) -> None:
    """Start the run's host, show its progress on stderr, and its summary on stdout at the end.

    Args:
        run: to start.
        as_json: whether the summary is JSON.
        after: number of the start that this one follows; see `Run.begin`.

    Raises:
        KinetoscopeError: with the exit code of the step that ended the run.
    """
    run_id = run.run_id
    if not as_json:
        say(f"run {run_id}")
    host = Host(run, workspace(), after=after)
    with display(run) as shown:

        def update() -> None:
            # What is damaged, the run itself tells at its end.
            with suppress(CorruptError):
                shown.update()

        code = host.follow(update)
    tell_end(run, host.start, disk_was_full=code == ExitCode.DISK_FULL, as_json=as_json)


def tell_end(run: Run, start: RunStart, *, as_json: bool, disk_was_full: bool = False) -> None:
    """Show what a run made, once a start of it is over.

    Args:
        run: that was followed.
        start: that is over.
        as_json: whether the summary is JSON.
        disk_was_full: whether its host told so by its exit code.

    Raises:
        KinetoscopeError: with the exit code of the step that ended the run.
    """
    end = start.end()
    if end is None:
        raise _interrupted(run, disk_was_full=disk_was_full)
    if end.state != "succeeded":
        raise _error(run.run_id, end)
    if as_json:
        emit_json(run_summary(run))
    else:
        say(*overview(run_summary(run)))


def _interrupted(run: Run, *, disk_was_full: bool) -> KinetoscopeError:
    why = interruption(run, disk_was_full=disk_was_full)
    return type(why)(f"run {run.record.run_id} was interrupted: {why.message}", hint=why.hint)


def _error(run_id: str, end: End) -> KinetoscopeError:
    resume = f"kino resume {run_id}"
    if end.state == "stopped":
        error = KinetoscopeError(
            f"run {run_id} was stopped; its finished work is saved", hint=f"{resume} continues it"
        )
        error.exit_code = ExitCode.PREEMPTED
        return error
    where = f"step {end.step} of run {run_id} failed" if end.step else f"run {run_id} failed"
    after = f"kino logs {run_id} {end.step}".rstrip() + f" shows more; {resume} tries again"
    hint = f"{end.hint}\n  {after}" if end.hint else after
    error = KinetoscopeError(f"{where}: {end.reason}", hint=hint)
    if end.code and end.code in list(ExitCode):
        error.exit_code = ExitCode(end.code)
    return error
