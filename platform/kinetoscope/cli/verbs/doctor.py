"""``kino doctor``: is this machine, or the cluster, fit to run the pipeline?"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from kinetoscope.cli.verbs.options import Json, Place

if TYPE_CHECKING:
    from kinetoscope.core.findings import Finding

EXAMPLE = "Example: kino doctor --on cluster --without pipelines"


class Part(StrEnum):
    """What a cluster may lack on purpose."""

    pipelines = "pipelines"
    gpu = "gpu"
    mlflow = "mlflow"
    monitoring = "monitoring"
    training = "training"


def doctor(
    on: Annotated[Place, typer.Option("--on", help="What to examine.")] = Place.laptop,
    profile: Annotated[
        str | None, typer.Option(help="Profile of the cluster (kino config profiles).")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace of the runs.")
    ] = None,
    release: Annotated[str | None, typer.Option(help="Name of the chart's release.")] = None,
    without: Annotated[
        list[Part] | None,
        typer.Option(help="Accept a cluster that has no such part; repeatable."),
    ] = None,
    service_account: Annotated[
        str | None,
        typer.Option(help="ServiceAccount of the runs' steps; by default the chart's binding."),
    ] = None,
    smoke_nodes: Annotated[
        int, typer.Option(min=1, max=64, help="Pods of the smoke training job.")
    ] = 2,
    timeout_seconds: Annotated[
        int, typer.Option(min=10, help="Longest time for all checks of a cluster.")
    ] = 600,
    as_json: Json = False,
) -> None:
    """Check this machine, or with --on cluster the cluster, before a run does.

    Exit code 1: a run would fail. What each check tries is in docs/doctor.md.
    """
    if on is Place.laptop:
        from kinetoscope.core.settings import workspace
        from kinetoscope.doctor.laptop import examine

        _show(examine(workspace()), as_json)
        return
    from kinetoscope.doctor.cluster.context import Options
    from kinetoscope.doctor.cluster.examine import examine_cluster
    from kinetoscope.kube.connection import connect
    from kinetoscope.kube.profiles import choose_profile

    options = Options(
        without=frozenset(part.value for part in without or ()),
        service_account=service_account,
        smoke_nodes=smoke_nodes,
        timeout_seconds=timeout_seconds,
    )
    chosen = choose_profile(profile, namespace=namespace, release=release)
    _show(examine_cluster(connect(chosen), options, tell=_tell), as_json)


def _tell(line: str) -> None:
    from kinetoscope.cli.output import say

    say(line, err=True)


def _show(findings: list[Finding], as_json: bool) -> None:
    from kinetoscope.cli.output import emit_json, say, say_message, shorten, table
    from kinetoscope.core.findings import any_bad, worst_first

    findings = worst_first(findings)
    if as_json:
        emit_json([finding._asdict() for finding in findings])
    else:
        rows = [(f.check, f.state, shorten(f.found)) for f in findings]
        say(*table(("check", "state", "found"), rows))
        for finding in findings:
            if finding.hint and finding.state != "ok":
                say_message("hint", f"{finding.check}: {finding.hint}")
    if any_bad(findings):
        raise typer.Exit(1)
