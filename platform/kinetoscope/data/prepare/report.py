"""The HTML report of a prepared data set: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2
import markupsafe
import numpy as np
import polars as pl

from kinetoscope.core.text import printable_value
from kinetoscope.data.sources.listing import told_left_out
from kinetoscope.data.video.peculiarities import PECULIARITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NUM_THUMBNAILS = 24
_NUM_BINS = 20
_WIDTH, _HEIGHT = 280, 90

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Prepared clips</title><style>
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; color: #222 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd;
text-align: left } td.n { text-align: right } .row { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0; width: 9rem; overflow-wrap: anywhere } figure img { width: 100% }
figcaption, .note { color: #666; font-size: 12px }
svg text { font-size: 11px }
</style></head><body>
<h1>Prepared clips</h1>
<p>{{ num_videos }} videos, {{ rows|length }} clips kept ({{ num_train }} to train on,
{{ rows|length - num_train }} held out) in {{ num_groups }} groups of near-duplicates.</p>
{% for note in notes %}<p>{{ note }}.</p>
{% endfor %}{% if left_out %}<p class="note">{{ left_out }}.</p>
{% endif %}<h2>Captions</h2>
<p>{{ captions.with_caption }} of {{ captions.videos }} videos have one{% if captions.beside %},
{{ captions.beside }} of them from files beside them{% endif %}.</p>
{% if captions.lists %}<table><tr><th>file</th><th>rows matched</th><th>passed over</th></tr>
{% for list in captions.lists %}<tr><td>{{ list.file }}</td>
{% if list.why_not %}<td></td><td>{{ list.why_not }}</td>{% else %}
<td>{{ list.num_matched }} of {{ list.num_rows }} ({{ list.layout }}{% if list.num_by_name %};
{{ list.num_by_name }} by the file name alone{% endif %})</td>
<td>{% for reason, count in list.passed_over.items() %}{{ count }}: {{ reason }}
(e.g. {{ list.examples[reason]|join(", ") }})<br>{% endfor %}</td>{% endif %}</tr>
{% endfor %}</table>{% endif %}
{% if shown %}<h2>How videos are shown</h2>
<table><tr><th>videos</th><th>they are</th></tr>
{% for words, count in shown %}<tr><td class="n">{{ count }}</td><td>{{ words }}</td></tr>
{% endfor %}</table>
{% endif %}<h2>Dropped clips</h2>
{% if dropped %}<table><tr><th>reason</th><th>clips</th></tr>
{% for reason, count in dropped %}<tr><td>{{ reason }}</td><td class="n">{{ count }}</td></tr>
{% endfor %}</table>{% else %}<p>None.</p>{% endif %}
<h2>Quarantined files</h2>
{% if quarantine %}<table><tr><th>file</th><th>reason</th><th>detail</th></tr>
{% for row in quarantine %}<tr><td>{{ row.path }}</td><td>{{ row.reason }}</td>
<td>{{ row.detail }}</td></tr>
{% endfor %}</table>{% else %}<p>None.</p>{% endif %}
<h2>Kept clips</h2>
<div class="row">{% for title, svg in histograms %}<div><div>{{ title }}</div>{{ svg }}</div>
{% endfor %}</div>
<h2>Samples</h2>
<div class="row">{% for row, image in samples %}<figure>
<img alt="" src="data:image/jpeg;base64,{{ image }}">
<figcaption>{{ row.text or "(no caption)" }}<br>({{ row.origin }})<br>
{{ row.split }}, {{ row.num_frames }} frames of
{{ row.width }}x{{ row.height }}</figcaption></figure>{% endfor %}</div>
</body></html>
"""


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """A file that was not used, by its path in the directory."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """What the report shows.

    Attributes:
        num_videos: files read, quarantined ones included.
        clips: all clips, kept and dropped (``selection.Selection.table``).
        scores: names of its columns that are scores.
        thumbnail: base64 JPEG of a row of ``clips``.
        quarantine: files not used.
        captions: where they came from (``captions.found``).
        shown: videos by ``video.peculiarities``.
        notes: what else people should know of the clips.
        num_left_out: folders that Kinetoscope made, not looked into.
    """

    num_videos: int
    clips: pl.DataFrame
    scores: tuple[str, ...]
    thumbnail: Callable[[int], str]
    quarantine: Sequence[QuarantineRow]
    captions: dict[str, Any]
    shown: dict[str, int]
    notes: tuple[str, ...] = ()
    num_left_out: int = 0


def render_report(data: ReportData) -> str:
    """Return the page. It holds no date, so equal data give an equal page."""
    kept = data.clips.with_row_index("row").filter(pl.col("reason").is_null())
    picks = np.unique(np.linspace(0, len(kept) - 1, min(_NUM_THUMBNAILS, len(kept))).astype(int))
    dropped = data.clips["reason"].drop_nulls().value_counts()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=printable_value
    )
    shorter = kept.select(pl.min_horizontal("height", "width")).to_series()
    columns = {"frames": kept["num_frames"], "shorter side, pixels": shorter}
    columns |= {f"{name} score": kept[name] for name in data.scores}
    return environment.from_string(_TEMPLATE).render(
        num_videos=data.num_videos,
        left_out=told_left_out(data.num_left_out) if data.num_left_out else "",
        captions=data.captions,
        notes=data.notes,
        shown=[(PECULIARITIES[kind], count) for kind, count in data.shown.items()],
        rows=kept,
        num_train=int((kept["split"] == "train").sum()),
        num_groups=kept["group"].n_unique(),
        dropped=sorted(dropped.iter_rows()),
        quarantine=data.quarantine,
        histograms=[(name, histogram_svg(c.to_list())) for name, c in columns.items()],
        samples=[
            (row, data.thumbnail(row["row"])) for row in kept[picks.tolist()].iter_rows(named=True)
        ],
    )


def histogram_svg(values: Sequence[float]) -> markupsafe.Markup:
    """Draw a histogram, labelled with the least and the greatest value."""
    counts, edges = np.histogram(values, bins=_NUM_BINS)
    step, tallest = _WIDTH / _NUM_BINS, max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{_HEIGHT * (1 - count / tallest):.1f}" '
        f'width="{step - 1:.1f}" height="{_HEIGHT * count / tallest:.1f}" fill="#4a7ebb">'
        f"<title>{edges[i]:.4g} to {edges[i + 1]:.4g}: {count}</title></rect>"
        for i, count in enumerate(counts.tolist())
        if count
    )
    baseline = _HEIGHT + 14
    labels = (
        f'<text x="0" y="{baseline}">{min(values):.4g}</text>'
        f'<text x="{_WIDTH}" y="{baseline}" text-anchor="end">{max(values):.4g}</text>'
    )
    return markupsafe.Markup(  # noqa: S704 (made of numbers alone)
        f'<svg width="{_WIDTH}" height="{_HEIGHT + 18}" role="img">{bars}{labels}</svg>'
    )
