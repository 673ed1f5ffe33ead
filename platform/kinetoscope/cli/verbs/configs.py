"""``kino config``: resolved configs, the schema that editors use, profiles of clusters."""

from __future__ import annotations

from typing import Annotated

import typer

from kinetoscope.cli.verbs import profiles
from kinetoscope.cli.verbs.options import Json, Overrides

app = typer.Typer(
    name="config",
    help="Show configs and their schema; keep profiles of clusters.",
    no_args_is_help=True,
)
app.add_typer(profiles.app)

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a recipe or a YAML file.")
]


@app.command(epilog="Example: kino config show tiny --set seed=7")
def show(recipe: RecipeName = "tiny", overrides: Overrides = None, as_json: Json = False) -> None:
    """Show every value of a resolved config, and where each was set."""
    from kinetoscope.cli.output import emit_json, say, shorten, table
    from kinetoscope.config.load import load_config

    loaded = load_config(recipe, overrides or ())
    if as_json:
        emit_json({"config": loaded.config.to_json(), "origins": loaded.origins})
    else:
        rows = [(path, shorten(value), origin) for path, value, origin in loaded.rows()]
        say(*table(("key", "value", "set by"), rows))


@app.command(epilog="Example: kino config schema > recipe.schema.json")
def schema() -> None:
    """Write the JSON Schema of a recipe file, for completion and checks in editors."""
    from kinetoscope.cli.output import emit_json
    from kinetoscope.config.schema import json_schema

    emit_json(json_schema())
