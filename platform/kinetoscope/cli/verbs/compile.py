"""``kino compile``: the Kubeflow pipeline of a recipe, as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinetoscope.cli.verbs.options import On, Overrides, Place, ProfileName, Recipe, go_to

if TYPE_CHECKING:
    from kinetoscope.pipelines.cluster.release import Release

EXAMPLE = (
    "Example: kino compile --recipe open-sora-1.2 --out pipeline.yaml "
    "--image registry.example.com/kinetoscope/trainer:0.1.0"
)

Out = Annotated[Path, typer.Option("--out", "-o", help="File to write.")]
Image = Annotated[
    str | None, typer.Option("--image", help="Image of the steps (kinetoscope/trainer).")
]
LightImage = Annotated[
    str | None,
    typer.Option(
        "--control-plane-image", help="Image of the tasks that begin, launch and end things."
    ),
]
ReleaseName = Annotated[
    str | None, typer.Option("--release", help="The chart's release, whose objects pods use.")
]
Objects = Annotated[
    str | None,
    typer.Option(
        "--objects",
        metavar="NAMESPACE",
        help="Write Pipeline and PipelineVersion objects for a namespace, for GitOps.",
    ),
]


def compile_(
    recipe: Recipe = "tiny",
    overrides: Overrides = None,
    out: Out = Path("pipeline.yaml"),
    image: Image = None,
    control_plane_image: LightImage = None,
    release: ReleaseName = None,
    objects: Objects = None,
    on: On = Place.laptop,
    profile: ProfileName = None,
) -> None:
    """Write the Kubeflow pipeline of a recipe as YAML.

    With --on cluster images and names are those of the release that is there.
    """
    from kinetoscope.cli.output import say
    from kinetoscope.cli.targets import check_file
    from kinetoscope.config.load import load_config
    from kinetoscope.core.errors import UserError
    from kinetoscope.pipelines.build import compile_pipeline

    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"{out} must end in .yaml", hint="--out pipeline.yaml")
    check_file(out)
    config = load_config(recipe, overrides or ()).config
    backend = go_to(on, profile)
    if backend is not None and release is not None:
        raise UserError("give --release or --on cluster", hint="a profile names its release")
    base = backend.release if backend is not None else _release(release)
    given = {"trainer_image": image, "control_plane_image": control_plane_image}
    out.parent.mkdir(parents=True, exist_ok=True)
    compile_pipeline(config, out, base.with_images(given), namespace=objects)
    say(str(out))


def _release(name: str | None) -> Release:
    from kinetoscope.pipelines.cluster.release import Release

    return Release() if name is None else Release.named(name)
