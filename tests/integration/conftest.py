"""Records that several integration tests start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kinetoscope.data.clip_table import ClipRow, write_clip_table
from kinetoscope.data.config import SynthConfig
from kinetoscope.data.synth import combinations, synthesize
from kinetoscope.steps.contract import RESULT_KEY, StepResult
from kinetoscope.storage.store import open_store


@pytest.fixture(scope="session")
def commit_clips() -> Callable[[Path], str]:
    """Write 8 synthetic clips and a committed result of prepare_data; give its URI."""
    return _commit_clips


def _commit_clips(path: Path) -> str:
    config = SynthConfig(num_clips=8, num_frames=12)
    paths = synthesize(path / "videos", config)
    rows = [
        ClipRow(
            clip_id=path.stem,
            source_id=path.stem,
            video_uri=path.as_uri(),
            start_frame=0,
            num_frames=12,
            fps=8.0,
            height=32,
            width=32,
            caption=combination.caption,
            text=combination.caption,
            motion_score=1.0,
            quality_score=1.0,
            split="train" if number < 7 else "heldout",
            group=number,
            digest="",
        )
        for number, (path, combination) in enumerate(zip(paths, combinations(config), strict=True))
    ]
    uri = f"{(path / 'objects').as_uri()}/steps/prepare_data/0"
    store = open_store(uri)
    write_clip_table(path / "clips.parquet", rows)
    store.put_file("outputs/clips/clips.parquet", path / "clips.parquet")
    artifact = {"uri": f"{uri}/outputs/clips", "digest": "sha256:0", "size_bytes": 1}
    result = StepResult.model_validate(
        {
            "step": "prepare_data",
            "fingerprint": "0",
            "generation": 1,
            "uri": uri,
            "artifacts": {"clips": artifact},
        }
    )
    store.put_bytes(RESULT_KEY, result.to_bytes())
    return uri
