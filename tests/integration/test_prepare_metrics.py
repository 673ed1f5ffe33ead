"""What prepare_data counts for Prometheus is what it reports."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.data.prepare.prepare import prepare
from kinetoscope.data.prepare.prepared import Hooks, Source
from kinetoscope.data.prepare.step import count_clips
from kinetoscope.data.sources.directory import DirectoryPlace
from kinetoscope.storage.open import open_store
from kinetoscope.telemetry.scrape import scrape
from kinetoscope.telemetry.step_metrics import DataMetrics


def test_clips_are_counted_by_what_became_of_them(mixed_videos: Path, tmp_path: Path) -> None:
    place = DirectoryPlace(mixed_videos)
    with DataMetrics("r", "prepare_data") as metrics:
        url = metrics.serve()
        prepared = prepare(
            Source(place, place.list()),
            open_store(tmp_path.as_uri()),
            PrepareDataConfig(num_workers=1),
            seed=0,
            scratch=tmp_path / "scratch",
            hooks=Hooks(selected=partial(count_clips, metrics)),
        )
        values = scrape(url)
    expected = {("kept", ""): prepared.num_train + prepared.num_heldout}
    expected |= {("dropped", reason): count for reason, count in prepared.dropped.items()}
    reasons = Counter(row.reason for row in prepared.quarantine)
    expected |= {("quarantined", reason): count for reason, count in reasons.items()}
    assert reasons["truncated"] == 1
    assert {name: value for name, value in values.items() if "clips" in name} == {
        f'kino_data_clips_total{{outcome="{outcome}",reason="{reason}"}}': count
        for (outcome, reason), count in expected.items()
    }
