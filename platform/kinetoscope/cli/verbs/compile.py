"""``kino compile``: the Kubeflow pipeline of a recipe, as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinetoscope.cli.verbs.options import Overrides, Recipe

EXAMPLE = "Example: kino compile --recipe open-sora-1.2 --out pipeline.yaml"

Out = Annotated[Path, typer.Option("--out", "-o", help="File to write.")]
Image = Annotated[
    str | None, typer.Option("--image", help="Container image that all steps run in.")
]


def compile_(
    recipe: Recipe = "tiny",
    overrides: Overrides = None,
    out: Out = Path("pipeline.yaml"),
    image: Image = None,
) -> None:
    """Write the Kubeflow pipeline of a recipe as YAML."""
    from kinetoscope.cli.output import say
    from kinetoscope.cli.targets import check_file
    from kinetoscope.config.load import load_config
    from kinetoscope.core.errors import UserError
    from kinetoscope.pipelines.build import compile_pipeline

    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"{out} must end in .yaml", hint="--out pipeline.yaml")
    check_file(out)
    config = load_config(recipe, overrides or ()).config
    out.parent.mkdir(parents=True, exist_ok=True)
    compile_pipeline(config, out, image=image)
    say(str(out))
