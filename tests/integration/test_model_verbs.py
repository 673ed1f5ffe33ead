"""The registry's verbs on a real sqlite MLflow, and a clip from a registered version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.settings import workspace
from kinetoscope.data.video_io import read_video
from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.inference.bundle import Bundle, BundleSpec, write_bundle
from kinetoscope.inference.config import ClipSize
from kinetoscope.models.config import (
    SeededTableConfig,
    SpatialVAEConfig,
    STDiTConfig,
    TemporalVAEConfig,
    VideoVAEConfig,
)
from kinetoscope.models.stdit import STDiT
from kinetoscope.models.video_vae import VideoVAE
from kinetoscope.storage.store import join_uri, open_store
from kinetoscope.tracking.registry import ModelRegistry

runner = CliRunner()


def kino(*arguments: str) -> Any:
    """Run a verb with ``--json`` and return what it wrote."""
    result = runner.invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """Return a registry with two versions of a tiny untrained model, the first one champion."""
    torch.manual_seed(0)
    spatial = SpatialVAEConfig(block_widths=(8, 8, 8), layers_per_block=1, norm_groups=4)
    temporal = TemporalVAEConfig(
        base_width=8,
        multipliers=(1, 1, 1),
        num_res_blocks=1,
        temporal_downsample=(True, True),
        norm_groups=4,
    )
    spec = BundleSpec(
        vae=VideoVAEConfig(spatial=spatial, temporal=temporal),
        dit=STDiTConfig(depth=1, width=16, num_heads=2, text_width=8, max_text_tokens=16),
        text_encoder=SeededTableConfig(width=8),
        flow=RectifiedFlowConfig(base_size_px=32),
        sampler=SamplerConfig(num_steps=2, guidance=3.0),
        size=ClipSize(num_frames=5),
        fps=8.0,
    )
    bundle = Bundle(spec, VideoVAE(spec.vae).state_dict(), STDiT(spec.dit).state_dict())
    root = open_store(workspace().store_uri)
    uri = join_uri(root.uri, write_bundle(root, "models/toy", bundle, tmp_path))
    registry = ModelRegistry(workspace().tracking_uri)
    for run in ("one", "two"):
        registry.register_version("toy", bundle_uri=uri, tags={"run": run}, scores={"a.b": 0.5})
    registry.promote("toy/1")
    return registry


def test_versions_are_listed_shown_promoted_and_generate(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    listed = {row["version"]: row["aliases"] for row in kino("models", "ls")}
    assert listed == {"1": ["champion"], "2": ["candidate"]}
    assert kino("models", "show", "toy")["version"] == "1"
    shown = kino("models", "show", "toy@candidate")
    assert (shown["version"], shown["scores"], shown["tags"]["run"]) == ("2", {"a.b": 0.5}, "two")

    assert kino("models", "promote", "toy/2")["aliases"] == ["candidate", "champion"]
    champion = registry.champion("toy")
    assert champion is not None
    assert champion.version == "2"

    paths = [tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4")]
    first = kino("generate", "a red circle", "--out", str(paths[0]), "--seed", "3")
    assert first["model"] == "toy/2"
    kino("generate", "a red circle", "--out", str(paths[1]), "--seed", "3", "--model", "toy/1")
    kino("generate", "a red circle", "--out", str(paths[2]), "--seed", "4")
    same, again, other = (path.read_bytes() for path in paths)
    assert same == again
    assert same != other
    assert read_video(paths[0])[0].shape == (5, 32, 32, 3)

    unknown = runner.invoke(app, ["models", "show", "toy/9"])
    assert unknown.exit_code == 2
    assert "error: model 'toy' has no version 9" in unknown.stderr
