"""Arguments and options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

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
