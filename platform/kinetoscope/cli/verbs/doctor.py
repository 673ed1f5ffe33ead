"""``kino doctor``: is this machine fit to run the pipeline?"""

from __future__ import annotations

import typer

from kinetoscope.cli.verbs.options import Json

EXAMPLE = "Example: kino doctor"


def doctor(as_json: Json = False) -> None:
    """Check this machine: packages, cores, memory, disk, workspace, local ports."""
    from kinetoscope.cli.output import emit_json, table
    from kinetoscope.core.settings import workspace
    from kinetoscope.pipelines.doctor import examine

    findings = examine(workspace())
    if as_json:
        emit_json([finding._asdict() for finding in findings])
    else:
        typer.echo(
            table(("check", "state", "found"), [(f.check, f.state, f.found) for f in findings])
        )
        for finding in findings:
            if finding.hint and finding.state != "ok":
                typer.echo(f"hint: {finding.check}: {finding.hint}", err=True)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)
