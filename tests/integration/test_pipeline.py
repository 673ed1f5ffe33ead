"""The whole pipeline as a user runs it: kfp.local, sqlite MLflow, a directory as object store."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

STEPS = [
    "prepare_data",
    "train_spatial_vae",
    "train_vae_1",
    "train_vae_2",
    "train_vae_3",
    "evaluate_vae",
    "encode_latents",
    "train_dit_1",
    "evaluate_dit",
    "register_model",
]


def test_real_clips_go_through_all_steps_and_bad_files_to_quarantine(smoke: Any) -> None:
    shown = smoke.json("show", "last")
    assert shown["state"] == "succeeded"
    assert [step["name"] for step in shown["steps"]] == STEPS
    for step in shown["steps"]:
        assert (step["state"], step["attempts"], step["cached"]) == ("done", 1, False)
        assert step["seconds"] > 0
    assert {Path(row["path"]).name for row in shown["quarantine"]} == {
        "truncated.mp4",
        "empty.mp4",
        "text.mp4",
        "short.mp4",
    }
    assert all(row["reason"] for row in shown["quarantine"])
    assert shown["model"]["name"] == "smoke"
    assert {"candidate", "champion"} <= set(shown["model"]["aliases"])
    assert shown["scores"]["vae.psnr"] > 5
    assert Path(shown["sample"]).stat().st_size > 0
    report = Path(shown["report"]).read_text()
    assert "succeeded" in report
    trained = [name for name in STEPS if name.startswith("train_")]
    assert report.count("<polyline points=") == len(trained)
    told = smoke.json("data", "report", "last")
    (table,) = told["buckets"].values()
    assert table["num_clips"] == told["num_train"]
    taken = sum(row["num_clips"] for row in table["rows"])
    assert taken + sum(table["left_out"].values()) == told["num_train"]
    assert "<h2>Buckets of train_dit_1</h2>" in report


def test_two_encodes_of_one_video_stay_on_one_side_of_the_split(smoke: Any) -> None:
    from kinetoscope.data.clip_table import read_clip_table

    table = next(smoke.workspace.glob("objects/steps/prepare_data/*/outputs/**/clips.parquet"))
    rows = read_clip_table(table.read_bytes(), str(table))
    sides = dict(zip(rows.video, rows.split_name, strict=True))
    assert sides["carphone_pristine.mp4"] == sides["carphone_distorted.mp4"]
    assert set(sides.values()) == {"train", "heldout"}


def test_a_second_run_skips_every_step(smoke: Any, mixed_videos: Path) -> None:
    shown = smoke.json("run", "--recipe", "smoke", "--videos", str(mixed_videos))
    assert [step["cached"] for step in shown["steps"]] == [True] * len(STEPS)
    assert len(smoke.json("ls")) >= 2


def test_a_finished_run_is_shown_by_resume_and_not_hosted_again(smoke: Any) -> None:
    starts = sorted(smoke.workspace.glob("objects/runs/*/starts/*"))
    shown = smoke.json("show", "last")
    assert smoke.json("resume", "last") == shown
    assert smoke("resume", "last").startswith(f"run {shown['run']} has finished: nothing is left")
    assert sorted(smoke.workspace.glob("objects/runs/*/starts/*")) == starts


def test_a_run_goes_on_when_nobody_reads_its_output(smoke: Any, mixed_videos: Path) -> None:
    process = smoke.start("run", "--recipe", "smoke", "--videos", str(mixed_videos))
    first = process.stdout.readline()
    process.stdout.close()
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert smoke.json("show", first.split()[1])["state"] == "succeeded"


def test_the_model_alone_reproduces_the_scored_clips(smoke: Any, tmp_path: Path) -> None:
    shown = smoke.json("show", "last")
    clips = [json.loads(line) for line in Path(shown["clips"]).read_text().splitlines()]
    clip = next(row for row in clips if row["kind"] != "untrained")
    scored = Path(shown["clips"]).parent / clip["path"]
    digest = hashlib.sha256(scored.read_bytes()).hexdigest()
    moved = [path for name in ("steps", "runs") for path in [smoke.workspace / "objects" / name]]
    for path in moved:
        shutil.move(path, tmp_path / path.name)
    try:
        made = tmp_path / "again.mp4"
        smoke("generate", clip["prompt"], "--seed", str(clip["seed"]), "--out", str(made))
    finally:
        for path in moved:
            shutil.move(tmp_path / path.name, path)
    assert hashlib.sha256(made.read_bytes()).hexdigest() == digest


def test_mlflow_has_the_run_its_steps_curves_and_lineage(smoke: Any) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{smoke.workspace / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("kinetoscope")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    parent = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    nested = {
        run.data.tags["kinetoscope.dev/step"]: run
        for run in runs
        if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert set(nested) == set(STEPS)
    assert {run.info.status for run in nested.values()} == {"FINISHED"}
    assert parent.info.status == "FINISHED"
    assert [item.path for item in client.list_artifacts(parent.info.run_id)] == ["report.html"]
    assert parent.data.tags["kinetoscope.dev/data-digest"].startswith("sha256:")
    assert parent.data.params["seed"] == "42"
    curve = client.get_metric_history(nested["train_dit_1"].info.run_id, "train.loss")
    assert [point.step for point in curve] == [2, 4, 6, 8, 10]
    assert (
        nested["train_dit_1"]
        .data.tags["kinetoscope.dev/input.vae"]
        .endswith(Path(nested["train_vae_3"].data.tags["kinetoscope.dev/step-key"]).name)
    )
    version = client.get_model_version_by_alias("smoke", "champion")
    assert version.tags


def test_a_config_that_gives_no_batch_is_told_right_after_the_data(
    smoke: Any, mixed_videos: Path
) -> None:
    error = smoke(
        "run",
        "--recipe",
        "smoke",
        "--videos",
        str(mixed_videos),
        "--set",
        "prepare_data.filters.where=[motion >= 1000]",
        code=2,
    )
    assert "4 were quarantined" in error
    assert "not: motion >= 1000" in error
    shown = smoke.json("show", "last")
    assert shown["state"] == "failed"
    states = {step["name"]: step["state"] for step in shown["steps"]}
    assert states["prepare_data"] == "failed"
    assert set(list(states.values())[1:]) == {"pending"}


def test_data_that_gives_no_batch_is_told_before_anything_trains(
    smoke: Any, mixed_videos: Path
) -> None:
    args = ["run", "--recipe", "smoke", "--videos", str(mixed_videos)]
    for override in (
        "train_vae.2.plan={num_frames: 500, height: 32, width: 32, lengths: random}",
        "prepare_data.filters.max_frames=null",
        "prepare_data.scenes.max_scene_frames=null",
    ):
        args += ["--set", override]
    error = smoke(*args, code=2)
    assert "train_vae.2.plan: no batch can be formed for 32x32 x 500 frames" in error
    assert "dropped" in error
    states = {step["name"]: step["state"] for step in smoke.json("show", "last")["steps"]}
    assert set(list(states.values())[1:]) == {"pending"}


def test_kfps_compiled_pipeline_names_no_bulk_artifacts(kino: Any, tmp_path: Path) -> None:
    import yaml

    out = tmp_path / "pipeline.yaml"
    kino("compile", "--recipe", "open-sora-1.2", "--out", str(out))
    spec = next(yaml.safe_load_all(out.read_text()))
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert "register-model" in tasks
    assert all(not task["cachingOptions"] for task in tasks.values())
    assert "artifacts" not in json.dumps(spec["components"])
