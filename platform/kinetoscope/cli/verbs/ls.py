"""``kino ls``: the runs of the workspace."""

from __future__ import annotations

from typing import Any

from kinetoscope.cli.verbs.options import Json, On, Place, ProfileName, go_to

EXAMPLE = "Example: kino ls --json"


def ls(on: On = Place.laptop, profile: ProfileName = None, as_json: Json = False) -> None:
    """List the runs, the newest first."""
    from kinetoscope.cli.output import (
        ANOTHER_WORKSPACE,
        emit_json,
        local_time,
        say,
        say_message,
        table,
    )
    from kinetoscope.core.settings import given_store_uri, workspace
    from kinetoscope.runs.view import run_rows

    go_to(on, profile)
    own = workspace()
    rows = run_rows(own.store_uri)
    if own.absence:
        say_message("hint", f"{own.absence}; {ANOTHER_WORKSPACE}")
    if as_json:
        emit_json(rows)
    elif not rows:
        say(f"no runs in {given_store_uri() or own.root}")
    else:
        cells = [
            (
                row["run"],
                row["name"],
                row["state"],
                f"{row['steps_done']}/{row['num_steps']}",
                local_time(row["created_at"]) if row["created_at"] else "-",
            )
            for row in rows
        ]
        say(*table(("run", "name", "state", "steps", "created"), cells))
        _tell_damage([row for row in rows if row["state"] in ("damaged", "refused")])


def _tell_damage(rows: list[dict[str, Any]]) -> None:
    from kinetoscope.cli.output import first_of, say

    lines = [f"{row['run']}: {row['reason']}; {row['hint']}" for row in rows]
    say(*first_of(lines, "kino ls --json"), err=True)
