"""``kino models``: the model registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kinetoscope.cli.verbs.options import Json

if TYPE_CHECKING:
    from kinetoscope.tracking.registry import ModelRegistry

app = typer.Typer(name="models", help="List, show and promote models.", no_args_is_help=True)

Reference = Annotated[
    str, typer.Argument(metavar="MODEL", help="NAME, NAME/VERSION or NAME@ALIAS.")
]


@app.command(epilog="Example: kino models ls")
def ls(as_json: Json = False) -> None:
    """List all versions of all registered models."""
    from kinetoscope.cli.output import emit_json, local_time, table

    versions = _registry().list_models()
    if as_json:
        emit_json([version.model_dump(mode="json") for version in versions])
        return
    rows = [
        (f"{v.name}/{v.version}", ", ".join(v.aliases) or "-", local_time(v.created_at))
        for v in versions
    ]
    typer.echo(table(("model", "aliases", "created"), rows) if rows else "no models yet")


@app.command(epilog="Example: kino models show kinetoscope@champion")
def show(model: Reference, as_json: Json = False) -> None:
    """Show a version's aliases, scores and lineage."""
    from kinetoscope.cli.output import emit_json, local_time

    version = _registry().get_version(model)
    if as_json:
        emit_json(version.model_dump(mode="json"))
        return
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    typer.echo(f"{version.name}/{version.version}{aliases}")
    typer.echo(f"created {local_time(version.created_at)}\nbundle  {version.bundle_uri}\n")
    for name, value in sorted(version.scores.items()):
        typer.echo(f"{name:<40}{value:.4g}")
    for name, text in sorted(version.tags.items()):
        typer.echo(f"{name:<40}{text}")


@app.command(epilog="Example: kino models promote kinetoscope/3")
def promote(model: Reference, as_json: Json = False) -> None:
    """Make a version the champion, which kino generate uses by default."""
    from kinetoscope.cli.output import emit_json

    version = _registry().promote(model)
    if as_json:
        emit_json(version.model_dump(mode="json"))
    else:
        typer.echo(f"{version.name}/{version.version} is the champion now")


def _registry() -> ModelRegistry:
    from kinetoscope.core.settings import tracking_uri
    from kinetoscope.tracking.registry import ModelRegistry

    return ModelRegistry(tracking_uri())
