"""``kino recipes``: the packaged recipes."""

from __future__ import annotations

from kinetoscope.cli.verbs.options import Json

EXAMPLE = "Example: kino recipes"


def recipes(as_json: Json = False) -> None:
    """List the recipes that kino run knows by name."""
    from kinetoscope.cli.output import emit_json, say, table
    from kinetoscope.config.load import list_recipes, recipe_summary

    rows = [(name, recipe_summary(name)) for name in list_recipes()]
    if as_json:
        emit_json([{"name": name, "summary": text} for name, text in rows])
    else:
        say(*table(("recipe", "what it is"), rows))
