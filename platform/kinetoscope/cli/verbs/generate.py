"""``kino generate``: a clip from a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kinetoscope.cli.verbs.options import Json

if TYPE_CHECKING:
    from kinetoscope.inference.config import ClipRequest
    from kinetoscope.models.config import PrecisionSetting
    from kinetoscope.storage.store import ObjectStore

EXAMPLE = 'Example: kino generate "a red circle moving left" --out circle.mp4'

Prompt = Annotated[
    str,
    typer.Argument(
        metavar="PROMPT", help="What the clip shows; one text per part: '|0|sunny|2|rainy'."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="NAME (its champion), NAME/VERSION or NAME@ALIAS; default: the newest model's name.",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", help="MP4 file to write, or a folder; there the prompt names the file."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the noise.")]
Frames = Annotated[int | None, typer.Option("--frames", min=1, help="Number of frames.")]
Height = Annotated[int | None, typer.Option("--height", min=2, help="Height in pixels.")]
Width = Annotated[int | None, typer.Option("--width", min=2, help="Width in pixels.")]
Fps = Annotated[float | None, typer.Option("--fps", min=0.1, help="Frames per second.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps.")]
Guidance = Annotated[
    float | None, typer.Option("--guidance", min=0, help="Weight of the prompt; 1 is without.")
]
Aesthetic = Annotated[
    float | None, typer.Option("--aesthetic", min=0, max=10, help="Aesthetic score to aim at.")
]
Motion = Annotated[float | None, typer.Option("--motion", min=0, help="Motion score to aim at.")]
Camera = Annotated[
    str | None,
    typer.Option(
        "--camera-motion",
        metavar="MOTION",
        help="'pan left', 'pan right', 'tilt up', 'tilt down', 'zoom in', 'zoom out' or 'static'.",
    ),
]
References = Annotated[
    list[Path] | None,
    typer.Option("--reference", help="Image or video to take frames from; may be repeated."),
]
MaskStrategy = Annotated[
    str,
    typer.Option("--mask-strategy", help="Which frames from which reference; '0' is the first."),
]
Loops = Annotated[
    int, typer.Option("--loops", min=1, help="Clips made one after the other and joined.")
]
ConditionFrames = Annotated[
    int | None,
    typer.Option(
        "--condition-frames", min=1, help="Frames of the clip before that the next begins with."
    ),
]
Precision = Annotated[
    Literal["auto", "bf16", "tf32", "fp32"],
    typer.Option("--precision", help="Of the models; auto is bf16 on GPUs and fp32 on CPUs."),
]


def generate(
    prompt: Prompt,
    model: Model = None,
    out: Out = Path("clip.mp4"),
    seed: Seed = 0,
    frames: Frames = None,
    height: Height = None,
    width: Width = None,
    fps: Fps = None,
    steps: Steps = None,
    guidance: Guidance = None,
    aesthetic: Aesthetic = None,
    motion: Motion = None,
    camera_motion: Camera = None,
    reference: References = None,
    mask_strategy: MaskStrategy = "",
    loops: Loops = 1,
    condition_frames: ConditionFrames = None,
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Generate a clip with a registered model.

    What is left out is the model's default. The same model, prompt, seed and precision give the
    same clip.
    """
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.cli.registered import find_version, open_bundle
    from kinetoscope.cli.targets import check_file
    from kinetoscope.inference.requests import request_from_prompt

    request = request_from_prompt(
        prompt,
        references=[str(path) for path in reference or ()],
        mask_strategy=mask_strategy,
        seed=seed,
        num_frames=frames,
        height=height,
        width=width,
        fps=fps,
        num_steps=steps,
        guidance=guidance,
        aesthetic=aesthetic,
        motion=motion,
        camera_motion=camera_motion,
        loops=loops,
        condition_frames=condition_frames,
    )
    version = find_version(model)
    out = _file_in(out, request)
    check_file(out)
    num_cut = _write_clip(open_bundle(version), request, out, precision)
    if as_json:
        told = {"path": str(out.resolve()), "model": version.ref, "prompt": prompt, "seed": seed}
        emit_json(told | {"prompts_cut": num_cut})
        return
    if num_cut:
        say(f"{num_cut} prompts were too long for the model's text encoder: their ends were cut")
    say(f"{out} ({version.ref}, seed {seed})")


def _file_in(out: Path, request: ClipRequest) -> Path:
    from kinetoscope.data.text.file_names import clip_name

    if not out.is_dir():
        return out
    return out / f"{clip_name(prompt=request.prompt, copy=request.seed)}.mp4"


def _write_clip(
    model: ObjectStore, request: ClipRequest, out: Path, precision: PrecisionSetting
) -> int:
    """Write the clip, and return how many of its prompts were cut."""
    from kinetoscope.cli.output import end_count, show_count
    from kinetoscope.cli.registered import load_bundle
    from kinetoscope.data.video.files import write_video
    from kinetoscope.evaluation.sampling import CLIP_CRF
    from kinetoscope.inference.pipeline import TextToVideo
    from kinetoscope.models.device import begin_computing

    def show_step(done: int, total: int) -> None:
        show_count(f"step {done}/{total}")
        if done == total:
            end_count()

    bundle = load_bundle(model)
    models = TextToVideo(bundle, begin_computing(precision))
    clip = models.generate(request, on_step=show_step)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Compressed as the scored samples are, so that the same request gives the same file.
    write_video(out, clip, request.fps or bundle.spec.fps, crf=CLIP_CRF)
    return models.count_cut_prompts(request)
