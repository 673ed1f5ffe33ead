from __future__ import annotations

import numpy as np
import polars as pl
from tiny.clips import clip_row

from kinetoscope.data.clip_table import ClipTable, arrow_columns
from kinetoscope.data.config import FiltersConfig, NearDuplicatesConfig, PrepareDataConfig
from kinetoscope.data.duplicates.signature import SIGNATURE
from kinetoscope.data.prepare.candidates import Clips
from kinetoscope.data.prepare.selection import Selection
from kinetoscope.evaluation.trained_model import typical_scores

NO_GROUPS = NearDuplicatesConfig(enabled=False)


def clips(motion: list[float | None]) -> Clips:
    count = len(motion)
    table = pl.DataFrame(
        {
            "clip_id": [f"clip-{n}" for n in range(count)],
            "video": [f"{n}.mp4" for n in range(count)],
            "digest": [f"sha256:{n:064x}"[:71] for n in range(16**60, 16**60 + count)],
            "start_frame": [0] * count,
            "num_frames": [20] * count,
            "shot": [0] * count,
            "fps": [8.0] * count,
            "own_fps": [8.0] * count,
            "height": [32] * count,
            "width": [32] * count,
            "caption": ["a cat"] * count,
            "origin": ["captions.csv:1"] * count,
            "reason": [None] * count,
            "motion": motion,
        },
        schema_overrides={"reason": pl.String, "motion": pl.Float64},
    )
    return Clips(table, np.zeros((count, SIGNATURE.itemsize), np.uint8))


def test_a_score_without_a_number_is_not_said_and_meets_no_condition() -> None:
    config = PrepareDataConfig(
        scores=("motion",), conditioning=("motion",), near_duplicates=NO_GROUPS
    )
    selection = Selection(clips([1.0, None, 3.0, 4.0]), config)
    selection.split(seed=0)
    assert selection.table["text"].to_list() == [
        "a cat. motion score: 1.0.",
        "a cat",
        "a cat. motion score: 3.0.",
        "a cat. motion score: 4.0.",
    ]
    kept = selection.kept
    table = arrow_columns(kept, {"motion": kept["motion"].to_numpy()})
    assert np.isnan([dict(row)["motion"] for row in table["scores"].to_pylist()]).sum() == 1

    where = FiltersConfig(where=("motion > 0 or motion <= 0",))
    filtered = Selection(clips([1.0, None, 3.0]), config.model_copy(update={"filters": where}))
    assert filtered.num_kept == 2


def test_prompts_are_conditioned_by_the_clips_that_have_a_number() -> None:
    rows = [clip_row(n, scores={"motion": value}) for n, value in enumerate([1.0, np.nan, 5.0])]
    table = ClipTable.from_rows(rows)
    assert typical_scores(table, ("motion",)) == {"motion": 3.0}
    none = ClipTable.from_rows([clip_row(0, scores={"motion": np.nan})])
    assert typical_scores(none, ("motion",)) == {}
