"""The report of a prepared data set, over columns made by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest

from kinetoscope.data.captions.found import Captions, ListReport
from kinetoscope.data.clip_table import ClipRow, ClipTable
from kinetoscope.data.plan.batch_plan import BatchPlan
from kinetoscope.data.plan.buckets import TOO_SHORT
from kinetoscope.data.plan.config import BucketConfig, BucketsConfig, FrameSize
from kinetoscope.data.report.bucket_counts import count_buckets
from kinetoscope.data.report.data import NearPair, QuarantineRow, ReportData
from kinetoscope.data.report.page import render_report
from kinetoscope.data.report.rows import telling_pairs
from kinetoscope.data.report.summary import report_json

NUM_CLIPS = 100
REASONS = {"too_still": 30, "low_quality": 6}
HOSTILE = (
    "<script>alert(1)</script>",
    "'; DROP TABLE clips; --",
    '"><img src=x onerror=alert(1)>',
    "<!-- ]]></bdi></figcaption> {{ 7*7 }} {% raw %}",
    "\u202egpj.elif\u2066",
    "\ufeffline one\r\nline two\x1b[2J\x00",
    "\u05d0\u05d1\u05d2 (1) \u0645\u0631\u062d\u0628\u0627",
    "cat \U0001f408\u200d\u2b1b \udcff",
)
BUCKETS = BucketsConfig(
    buckets=(
        BucketConfig(resolution=FrameSize(height=64, width=64), num_frames=17, batch_size=2),
        BucketConfig(resolution=FrameSize(height=32, width=32), num_frames=17, batch_size=4),
    )
)


def clips(num_clips: int = NUM_CLIPS, **changed: Any) -> pl.DataFrame:
    """Return clips of which the first are dropped, by `REASONS`."""
    numbers = np.arange(num_clips)
    reasons: list[str | None] = []
    for reason, count in REASONS.items():
        reasons += [reason] * count
    reasons = [*reasons, *[None] * num_clips][:num_clips]
    kept = [reason is None for reason in reasons]
    columns: dict[str, Any] = {
        "clip_id": [f"{n:016x}-000000" for n in numbers],
        "video": [f"video-{n:04d}.mp4" for n in numbers],
        "digest": ["sha256:0"] * num_clips,
        "start_frame": numbers * 24,
        "num_frames": 5 + numbers % 30,
        "fps": np.full(num_clips, 24.0),
        "own_fps": np.where(numbers % 2, 23.976, 24.0),
        "height": np.where(numbers % 3, 64, 32),
        "width": np.full(num_clips, 64),
        "shot": np.zeros(num_clips, np.int64),
        "caption": [f"caption of {n}" for n in numbers],
        "origin": ["captions.csv line 3"] * num_clips,
        "text": [""] * num_clips,
        "reason": pl.Series(reasons, dtype=pl.String),
        "group": pl.Series([n if k else None for n, k in enumerate(kept)], dtype=pl.Int64),
        "split": ["train" if n % 10 else "heldout" for n in numbers],
        "motion": numbers / 10,
        "quality": np.full(num_clips, 0.5),
    }
    frame = pl.DataFrame(columns | changed)
    return frame.with_columns(pl.when(pl.col("reason").is_null()).then("split").alias("split"))


def report(frame: pl.DataFrame, **changed: Any) -> ReportData:
    values: dict[str, Any] = {
        "num_videos": 120,
        "clips": frame,
        "scores": ("motion", "quality"),
        "thumbnail": lambda row: f"row{row}",
        "pairs": (),
        "quarantine": (),
        "captions": Captions(num_videos=120).to_json(),
        "shown": {},
        "notes": (),
        "buckets": {},
    }
    return ReportData(**values | changed)


class Page(HTMLParser):
    """What a browser would make of a page: its tags, and the text of each ``bdi``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.isolated: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._inside = tag == "bdi"
        if self._inside:
            self.isolated.append("")

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.isolated[-1] += data


def full_report() -> ReportData:
    """Return a report that has something in every part, hostile texts wherever one can be."""
    texts = [HOSTILE[n % len(HOSTILE)] for n in range(NUM_CLIPS)]
    # A lone surrogate can be in no column: files with such names are refused before.
    stored = [text.replace("\udcff", "") for text in texts]
    evil = HOSTILE[0]
    captions = Captions(num_videos=120, num_beside=1)
    captions.lists.append(
        ListReport(evil, "table", 9, 7, 2, {"no caption": 1}, {"no caption": [evil, *HOSTILE]})
    )
    captions.lists.append(ListReport(evil, why_not=evil))
    return report(
        clips(video=stored, caption=stored, origin=stored),
        pairs=[NearPair(40, 41, 0.1, evil)],
        quarantine=[QuarantineRow(text, "hostile", text) for text in HOSTILE],
        captions=captions.to_json(),
        shown={"hdr": 2},
        notes=(evil,),
        buckets={"train_dit_1": table_of(clips())},
        num_left_out=3,
    )


def table_of(frame: pl.DataFrame) -> Any:
    train = frame.filter(pl.col("split") == "train")
    columns = tuple(train[name].to_numpy() for name in ("num_frames", "height", "width"))
    return count_buckets(BUCKETS, columns, stride=(16, 16), seed=1)  # type: ignore[arg-type]


def test_hostile_texts_are_shown_as_text_and_do_nothing() -> None:
    text = render_report(full_report())
    page = Page(text)
    own = Page(render_report(report(clips())))
    assert page.tags - own.tags <= {"details", "summary", "h3"}
    assert page.attributes - own.attributes <= {"open", "colspan"}
    assert not page.tags & {"script", "link", "iframe", "form", "a"}
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[3], HOSTILE[6]} <= set(page.isolated)
    assert {r"\u202egpj.elif\u2066", "\\ufeffline one\nline two\\x1b[2J\\x00"} <= set(page.isolated)
    assert not set("\u202e\u2066\ufeff\x1b\x00\udcff") & set(text)


def test_the_page_forbids_whatever_is_not_in_it() -> None:
    text = render_report(full_report())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert text.index("Content-Security-Policy") < text.index("<style>")
    assert set(re.findall(r'src="(.{23})', text)) == {"data:image/jpeg;base64,"}
    assert re.findall(r"https?:|@import|url\(", text) == []


def test_equal_data_give_equal_bytes_and_the_order_of_pairs_decides_nothing() -> None:
    assert render_report(full_report()) == render_report(full_report())


def test_a_very_long_caption_is_cut_and_its_length_told() -> None:
    frame = clips(caption=["x" * 50_000] * NUM_CLIPS)
    text = render_report(report(frame))
    assert text.count("... (50,000 characters)") == 24
    assert len(text) < 100_000
    assert len(report_json(report(frame))["samples"][0]["caption"]) == 50_000


def test_each_reason_has_its_count_and_a_contact_sheet() -> None:
    shown: list[int] = []

    def thumbnail(row: int) -> str:
        shown.append(row)
        return f"row{row}"

    data = report(clips(), thumbnail=thumbnail)
    text = render_report(data)
    told = report_json(data)["dropped"]
    assert [(row["reason"], row["clips"]) for row in told] == list(REASONS.items())
    still, poor = ([row["row"] for row in sheet["samples"]] for sheet in told)
    assert (still[0], still[-1], len(set(still))) == (0, 29, 12)
    assert poor == [30, 31, 32, 33, 34, 35]
    kept = shown[18:]
    assert shown[:18] == still + poor
    assert (kept[0], kept[-1], len(set(kept))) == (36, 99, 24)
    assert "video-0035.mp4</bdi><br>from 35 s (frame 840)" in text
    assert "motion</bdi> 3.5" in text
    assert 'src="data:image/jpeg;base64,row35"' in text


def test_a_bucket_table_has_every_clip_to_train_on_once() -> None:
    frame = clips()
    table = table_of(frame)
    num_train = int((frame["split"] == "train").sum())
    assert table.num_clips == table.num_taken + sum(table.left_out.values()) == num_train
    by_hand = frame.filter(pl.col("split") == "train", pl.col("num_frames") >= 17)
    assert [row.num_clips for row in table.rows] == [
        (by_hand["height"] == side).sum() for side in (32, 64)
    ]
    assert set(table.left_out) == {TOO_SHORT}
    text = render_report(report(frame, buckets={"train_dit_1": table}))
    assert f"2 buckets take\n{table.num_taken} of {num_train} clips" in text
    assert f"none: <bdi>{TOO_SHORT}" in text


def test_draws_of_a_table_are_those_of_the_first_epoch() -> None:
    bucket = BucketConfig(
        resolution=FrameSize(height=32, width=32), num_frames=5, keep_probability=0.5
    )
    config = BucketsConfig(buckets=(bucket,))
    size = {"height": 32, "width": 32, "scores": {}, "fps": 8.0}
    texts = {"video": "v", "caption": "", "text": "", "split": "train", "digest": "d"}
    table = ClipTable.from_rows(
        ClipRow(clip_id=str(n), start_frame=0, num_frames=9, group=n, **size, **texts)  # type: ignore[arg-type]
        for n in range(50)
    )
    told = count_buckets(
        config, (table.num_frames, table.height, table.width), stride=(8, 8), seed=7
    )
    epoch = BatchPlan(table, config, seed=7, stride=(8, 8)).epoch(0)
    assert told.num_taken == epoch.num_samples
    assert told.left_out == epoch.dropped


def test_of_near_duplicates_the_doubtful_come_first_and_kinds_take_turns() -> None:
    frame = clips(video=["same.mp4"] * 50 + [f"{n}.mp4" for n in range(50)])
    pairs = [
        NearPair(0, 1, 0.9, "picture"),  # of one video
        NearPair(50, 51, 0.1, "picture"),
        NearPair(50, 52, 0.3, "picture"),
        NearPair(53, 54, 0.2, "picture"),
        NearPair(55, 56, 0.05, "mirrored"),
    ]
    picked = telling_pairs(report(frame, pairs=pairs), 3)
    assert [(pair.one, pair.other) for pair in picked] == [(50, 52), (55, 56), (53, 54)]
    told = report_json(report(frame, pairs=pairs))["near_duplicates"]
    assert (told["pairs"], told["kinds"]) == (5, {"picture": 4, "mirrored": 1})
    assert [pair["one"]["video"] for pair in told["shown"]] == [
        "0.mp4", "5.mp4", "3.mp4", "same.mp4",
    ]  # fmt: skip
    assert "distance 0.3" in render_report(report(frame, pairs=pairs))


def test_the_json_has_what_the_page_says_and_comes_back_as_it_was() -> None:
    told = report_json(full_report())
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["clips"] == {
        "found": 100, "kept": 64, "train": 58, "heldout": 6, "groups": 64,
    }  # fmt: skip
    assert told["quarantine"] == {"hostile": len(HOSTILE)}
    assert told["samples"][0]["row"] == 36
    assert sum(row["num_clips"] for row in told["buckets"]["train_dit_1"]["rows"]) > 0
    assert told["frame_rates"] == {
        "rates": [
            {"own_fps": 23.98, "fps": 24.0, "clips": 32},
            {"own_fps": 24.0, "fps": 24.0, "clips": 32},
        ],
        "others": 0,
    }


def test_histograms_count_all_and_what_is_not_finite_apart() -> None:
    motion = np.arange(NUM_CLIPS, dtype=np.float64)
    motion[[3, 40, 41]] = np.nan, np.inf, -np.inf
    values = [None if n == 50 else float(value) for n, value in enumerate(motion)]
    charts = {
        chart["name"]: chart for chart in report_json(report(clips(motion=values)))["histograms"]
    }
    chart = charts["motion score"]
    assert chart["not_finite"] == 4
    assert sum(chart["kept"]) + sum(chart["dropped"]) == NUM_CLIPS - 4
    assert sum(chart["dropped"]) == 35
    finite = motion[np.isfinite(motion) & (motion != 50)]
    counts, edges = np.histogram(finite, bins=20)
    assert [a + b for a, b in zip(chart["kept"], chart["dropped"], strict=True)] == counts.tolist()
    assert chart["edges"] == pytest.approx(edges.tolist())
    assert "motion score" in render_report(report(clips(motion=values)))
    assert charts["quality score"]["edges"] == [0.5, 0.5]


@pytest.mark.parametrize("values", [[np.nan], [-1.7e308, 1.7e308], [5e-324, 0.0]], ids=str)
def test_no_score_is_too_strange_for_a_histogram(values: Sequence[float]) -> None:
    motion = np.resize(np.array(values), NUM_CLIPS)
    chart = report_json(report(clips(motion=motion)))["histograms"][3]
    assert sum(chart["kept"]) + sum(chart["dropped"]) + chart["not_finite"] == NUM_CLIPS
    render_report(report(clips(motion=motion)))


def test_where_captions_came_from_is_counted_by_kind() -> None:
    origins = ["a.csv line 12", "a.csv:7", "clip.txt", "file name", "none", "line 3.txt"]
    frame = clips(origin=(["a.csv line 1"] * 36 + origins * 20)[:NUM_CLIPS])
    told = report_json(report(frame))["captions"]["origins"]
    assert told == {
        "a list": 22,
        "a file beside the video": 21,
        "the file's name": 11,
        "none": 10,
    }


def test_the_page_names_the_first_200_of_many_bad_files_and_counts_all() -> None:
    rows = [QuarantineRow(f"{n}.mp4", "unreadable", "x") for n in range(5000)]
    text = render_report(report(clips(), quarantine=rows))
    assert "5,000 files in quarantine" in text
    assert text.count("<td><bdi>unreadable</bdi></td>") == 201


def test_texts_may_be_of_few_values_and_no_clip_need_be_there() -> None:
    frame = clips()
    categories = frame.with_columns(
        pl.col("reason", "split", "origin", "video").cast(pl.Categorical)
    )
    assert render_report(report(categories)) == render_report(report(frame))
    text = render_report(report(frame.clear()))
    assert "0 clips kept" in text
