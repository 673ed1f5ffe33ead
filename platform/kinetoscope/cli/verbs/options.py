"""Arguments and options that several verbs share."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kinetoscope.pipelines.cluster.backend import Backend


class Place(StrEnum):
    """Where something is done or looked at."""

    laptop = "laptop"
    cluster = "cluster"


RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of a run, a unique prefix of it, or 'last'.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Recipe = Annotated[
    str,
    typer.Option("--recipe", "-r", help="Name of a recipe (see kino recipes) or a YAML file."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the recipe; repeatable."),
]
Videos = Annotated[
    str,
    typer.Option(
        "--videos",
        metavar="PLACE",
        help="Folder with videos and their captions, s3://BUCKET/PREFIX, or the manifest of an "
        "upload (kino data upload).",
    ),
]
On = Annotated[
    Place, typer.Option("--on", envvar="KINO_ON", help="Where runs are: here, or on a cluster.")
]
ProfileName = Annotated[
    str | None, typer.Option("--profile", help="Profile of the cluster (kino config profiles).")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="On a cluster: follow the run to its end, as here.")
]


def go_to(on: Place, profile: str | None) -> Backend | None:
    """Look at the runs of a place from now on; return the cluster, if it is one.

    Raises:
        KinetoscopeError: the cluster can't be reached, or has no release of the chart.
    """
    from kinetoscope.core.errors import UserError

    if on == Place.laptop:
        if profile is not None:
            raise UserError("--profile names a cluster", hint=f"--on cluster --profile {profile}")
        return None
    from kinetoscope.pipelines.cluster.backend import reach

    return reach(profile)
