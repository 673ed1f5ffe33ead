"""``kino data``: make, prepare and inspect training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kinetoscope.cli.verbs.options import Json, Overrides, Recipe, RunName

app = typer.Typer(
    name="data", help="Make, prepare and inspect training data.", no_args_is_help=True
)

SynthOut = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
Clips = Annotated[int | None, typer.Option("--clips", min=1, help="Number of clips.")]
Frames = Annotated[int | None, typer.Option("--frames", min=2, help="Frames of each clip.")]
Size = Annotated[int | None, typer.Option("--size", min=16, help="Height and width in pixels.")]
Fps = Annotated[int | None, typer.Option("--fps", min=1, help="Frames per second.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of what is drawn.")]
HeldOut = Annotated[
    int | None, typer.Option("--held-out", min=0, help="Combinations that are never drawn.")
]
Place = Annotated[
    str,
    typer.Argument(
        metavar="VIDEOS",
        help="Folder with videos and their captions, s3://BUCKET/PREFIX, or a manifest.",
    ),
]
Folder = Annotated[
    str, typer.Argument(metavar="VIDEOS", help="Folder with videos and their captions.")
]
To = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="URI", help="s3://BUCKET/PREFIX or a folder; by default in the store."
    ),
]
SetName = Annotated[
    str | None, typer.Option("--name", help="Name of the set; by default the folder's name.")
]
PreparedOut = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]


@app.command(epilog="Example: kino data synth --out videos --clips 96 --seed 1")
def synth(
    out: SynthOut = Path("videos"),
    clips: Clips = None,
    frames: Frames = None,
    size: Size = None,
    fps: Fps = None,
    seed: Seed = None,
    held_out: HeldOut = None,
) -> None:
    """Write captioned MP4 clips of moving shapes ("a red circle moving left")."""
    from pydantic import ValidationError

    from kinetoscope.cli.counter import Counter
    from kinetoscope.cli.output import say
    from kinetoscope.core.errors import ConfigError
    from kinetoscope.data.config import SynthConfig
    from kinetoscope.data.synthetic.draw import synthesize

    given = {
        "num_clips": clips,
        "num_frames": frames,
        "size_px": size,
        "fps": fps,
        "seed": seed,
        "held_out": held_out,
    }
    try:
        config = SynthConfig.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{first['loc'][0]}={first['input']!r}: {first['msg']}") from None
    with Counter("clips") as progress:
        paths = synthesize(out, config, progress)
    say(f"{len(paths)} clips and their captions in {out}")


@app.command(epilog="Example: kino data prepare videos --out prepared --recipe smoke")
def prepare(
    videos: Place,
    out: PreparedOut = Path("prepared"),
    recipe: Recipe = "tiny",
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Prepare videos as the pipeline's first step would, without a run."""
    from dataclasses import asdict
    from functools import partial

    from kinetoscope.cli.counter import Counter
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.config.load import load_config
    from kinetoscope.data.prepare.fetching import check_room
    from kinetoscope.runs.checks import stage_buckets
    from kinetoscope.runs.videos import look_at_videos

    config = load_config(recipe, overrides or ()).config
    place, listing = look_at_videos(videos)  # told before a folder is made
    say(check_room(place, listing, config.prepare_data, out), err=True)
    from kinetoscope.data.prepare.prepare import (
        OUTPUT_FOLDERS,
        QUARANTINE_KEY,
        REPORT_KEY,
    )
    from kinetoscope.data.prepare.prepare import prepare as prepare_videos
    from kinetoscope.data.prepare.prepared import Hooks, Source
    from kinetoscope.steps.scratch import scratch_folder
    from kinetoscope.storage.directory import DirectoryStore
    from kinetoscope.storage.own_folders import mark_own

    mark_own(out, OUTPUT_FOLDERS)
    with Counter("videos") as progress, scratch_folder(out, ".scratch") as scratch:
        prepared = prepare_videos(
            Source(place, listing),
            DirectoryStore(out.resolve()),
            config.prepare_data,
            seed=config.seed,
            scratch=scratch,
            hooks=Hooks(progress=progress, buckets=partial(stage_buckets, config)),
        )
    files = {"quarantine_file": QUARANTINE_KEY, "report": REPORT_KEY}
    told = asdict(prepared) | {name: str(out.resolve() / key) for name, key in files.items()}
    if as_json:
        emit_json(told)
    else:
        say(*_prepared_lines(told))


@app.command(epilog="Example: kino data upload videos --to s3://team/videos --name cats")
def upload(videos: Folder, to: To = None, name: SetName = None, as_json: Json = False) -> None:
    """Bring a folder of videos and captions to where pods can read it.

    Each content is sent once, also of files that other sets have. An upload that was broken off
    goes on where it was when it is begun again. kino run --videos takes the manifest that it tells.
    """
    import shlex
    from dataclasses import asdict

    from kinetoscope.cli.counter import Counter
    from kinetoscope.cli.output import emit_json, first_of, say
    from kinetoscope.cli.uploading import upload_folder
    from kinetoscope.core.units import format_bytes

    with Counter("files looked at") as looked, Counter("", format_bytes) as sent:
        done = upload_folder(videos, to, name, (looked, sent))
    if as_json:
        emit_json(asdict(done))
        return
    lines = [f"{name}: left out ({why})" for name, why in done.refused.items()]
    if done.replaced is not None:
        lines.append(f"the set of {done.replaced} other files that had this name is replaced")
    say(
        f"{done.num_files} files, {done.num_sent} contents sent ({format_bytes(done.sent_bytes)})",
        *first_of(lines, "kino data upload --json"),
        f"kino run --videos {shlex.quote(done.manifest)}",
    )


@app.command(epilog="Example: kino data report last")
def report(run: RunName = "last", as_json: Json = False) -> None:
    """Tell what a run's data preparation kept, dropped, and put in quarantine and in buckets."""
    from dataclasses import asdict

    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.core.errors import NotFoundError
    from kinetoscope.core.settings import workspace
    from kinetoscope.runs.find import find_run
    from kinetoscope.runs.summary import uri_to_path
    from kinetoscope.runs.view import step_results

    found = find_run(workspace().store_uri, run)
    result = step_results(found).get("prepare_data")
    if result is None:
        raise NotFoundError(
            f"run {found.run_id} has not prepared its data",
            hint=f"kino status {found.run_id} shows how far it is",
        )
    told = {
        "num_videos": result.summary["videos"],
        "num_train": int(result.metrics["clips.train"]),
        "num_heldout": int(result.metrics["clips.heldout"]),
        "num_left_out": result.summary.get("left_out", 0),
        "captions": result.summary.get("captions", {}),
        "shown": result.summary.get("shown", {}),
        "notes": result.summary.get("notes", []),
        "dropped": result.summary["dropped"],
        "buckets": {step: asdict(table) for step, table in found.buckets.items()},
        "quarantine": result.summary["quarantine"],
        "quarantine_file": uri_to_path(result.artifact_uri("quarantine")),
        "report": uri_to_path(result.artifact_uri("report")),
    }
    if as_json:
        emit_json(told)
    else:
        say(*_prepared_lines(told))


def _prepared_lines(told: dict[str, Any]) -> list[str]:
    from kinetoscope.cli.output import first_of
    from kinetoscope.cli.overview import bucket_lines, quarantine_lines
    from kinetoscope.data.captions.found import caption_lines
    from kinetoscope.data.sources.listing import told_left_out
    from kinetoscope.data.video.peculiarities import PECULIARITIES

    lines = [
        f"{told['num_videos']} videos: {told['num_train']} clips to train on, "
        f"{told['num_heldout']} held out"
    ]
    lines += told["notes"]
    if told["captions"]:
        lines += first_of(caption_lines(told["captions"]), told["report"])
    lines += [f"{count} videos {PECULIARITIES[kind]}" for kind, count in told["shown"].items()]
    lines += [f"dropped, {reason}: {count}" for reason, count in told["dropped"].items()]
    lines += bucket_lines(told["buckets"], "--json has all")
    if told["num_left_out"]:
        lines.append(told_left_out(told["num_left_out"]))
    lines += quarantine_lines(told["quarantine"], told["quarantine_file"])
    return [*lines, f"report: {told['report']}"]
