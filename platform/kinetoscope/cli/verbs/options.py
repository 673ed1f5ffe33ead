"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
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
Videos = Annotated[Path, typer.Option("--videos", help="Folder with videos and their captions.")]
