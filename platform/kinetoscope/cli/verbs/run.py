"""``kino run``: start a run and follow it to its end."""

from __future__ import annotations

from kinetoscope.cli.verbs.options import Json, Overrides, Recipe, Videos

EXAMPLE = "Example: kino run --recipe tiny --videos videos --set seed=7"


def run(
    videos: Videos, recipe: Recipe = "tiny", overrides: Overrides = None, as_json: Json = False
) -> None:
    """Run the whole pipeline here: raw videos in, a registered model out.

    Steps that an earlier run has done already, on the same data with the same config and code, are
    skipped. Ctrl-C saves and stops; kino resume continues.
    """
    from kinetoscope.cli.following import follow
    from kinetoscope.config.load import load_config
    from kinetoscope.core.settings import workspace
    from kinetoscope.pipelines.local import create_run

    follow(create_run(load_config(recipe, overrides or ()), videos, workspace()), as_json=as_json)
