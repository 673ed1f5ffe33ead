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

    Videos are read where they lie. What a run began on, it goes on with: a video that changed or
    went away since is refused by its name.
    """
    from kinetoscope.cli.counter import Counter
    from kinetoscope.cli.following import follow
    from kinetoscope.config.load import load_config
    from kinetoscope.core.settings import workspace
    from kinetoscope.pipelines.local import create_run

    loaded = load_config(recipe, overrides or ())
    with Counter("files looked at") as progress:
        created = create_run(loaded, videos, workspace(), progress)
    follow(created, as_json=as_json)
