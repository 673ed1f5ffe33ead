"""Rows of clip tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kinetoscope.data.clip_table import ClipRow
from kinetoscope.data.config import SynthConfig
from kinetoscope.data.synthetic.draw import combinations, synthesize


def clip_row(number: int = 0, **changes: Any) -> ClipRow:
    """Return a row whose names and group follow from its number, and its text from its caption."""
    values: dict[str, Any] = {
        "clip_id": f"clip-{number}",
        "video": f"{number}.mp4",
        "start_frame": 0,
        "num_frames": 20,
        "fps": 8.0,
        "height": 32,
        "width": 32,
        "caption": "",
        "text": changes.get("caption", ""),
        "motion_score": 1.0,
        "quality_score": 1.0,
        "split": "train",
        "group": number,
        "digest": "",
    }
    return ClipRow(**values | changes)


def synthetic_rows(
    folder: Path, *, num_clips: int, num_frames: int, heldout: range
) -> list[ClipRow]:
    """Draw small synthetic videos into the folder; those numbered in ``heldout`` are held out."""
    config = SynthConfig(num_clips=num_clips, num_frames=num_frames, size_px=32)
    drawn = zip(synthesize(folder, config), combinations(config), strict=True)
    return [
        clip_row(
            number,
            video=path.name,
            num_frames=num_frames,
            caption=shown.caption,
            split="heldout" if number in heldout else "train",
        )
        for number, (path, shown) in enumerate(drawn)
    ]
