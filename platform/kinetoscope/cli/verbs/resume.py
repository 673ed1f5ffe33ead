"""``kino resume``: continue a run that was stopped, interrupted or has failed."""

from __future__ import annotations

from kinetoscope.cli.verbs.options import Json, RunName

EXAMPLE = "Example: kino resume last"


def resume(run: RunName = "last", as_json: Json = False) -> None:
    """Continue a run: finished steps stay, the open one continues at its last checkpoint."""
    from kinetoscope.cli.following import follow
    from kinetoscope.core.errors import UserError
    from kinetoscope.core.settings import workspace
    from kinetoscope.pipelines.local import check_disk
    from kinetoscope.runs.records import find_run

    found = find_run(workspace().store_uri, run)
    if found.state() == "running":
        raise UserError(
            f"run {found.record.run_id} is still running",
            hint=f"kino status {found.record.run_id} shows it, kino stop stops it",
        )
    check_disk(workspace())
    follow(found, as_json=as_json)
