"""The HTML report of a prepared data set: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import markupsafe

from kinetoscope.core.text import printable_lines
from kinetoscope.data.report.charts import histogram_svg
from kinetoscope.data.report.histograms import Histogram
from kinetoscope.data.report.summary import report_json
from kinetoscope.data.sources.listing import told_left_out
from kinetoscope.data.video.peculiarities import PECULIARITIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinetoscope.data.report.data import ReportData

_TEMPLATE = Path(__file__).with_name("page.html")
_MOST_CHARS = 400
_MOST_QUARANTINED = 200


def render_report(data: ReportData) -> str:
    """Return the page. It holds no date, so equal data give an equal page.

    Whatever text it is given is shown as text: escaped, of printable characters alone, cut where it
    is very long, and isolated (``<bdi>``), so that none turns the words around it.
    """
    told = report_json(data)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": _count, "number": _number, "share": _share}
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        told,
        left_out_words=told_left_out(data.num_left_out),
        shown=[(PECULIARITIES[kind], count) for kind, count in data.shown.items()],
        tables=data.buckets,
        quarantined=data.quarantine[:_MOST_QUARANTINED],
        charts=[_chart(chart) for chart in told["histograms"]],
        image=_images(data.thumbnail),
    )


def _shown(value: Any) -> Any:
    """Return a value as the page shows it: markup and numbers of ours as they are."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    rest = f"... ({len(value):,} characters)" if len(value) > _MOST_CHARS else ""
    return markupsafe.Markup("<bdi>{}</bdi>{}").format(printable_lines(value[:_MOST_CHARS]), rest)


def _count(value: int) -> markupsafe.Markup:
    return markupsafe.Markup(f"{value:,}")  # noqa: S704 (a number alone)


def _number(value: float | None) -> markupsafe.Markup:
    return markupsafe.Markup("?" if value is None else f"{value:.4g}")  # noqa: S704 (likewise)


def _share(part: int, whole: int) -> markupsafe.Markup:
    return markupsafe.Markup(f"{part / max(whole, 1):.1%}")  # noqa: S704 (likewise)


def _chart(told: dict[str, Any]) -> tuple[Histogram, markupsafe.Markup]:
    chart = Histogram(**told)
    return chart, histogram_svg(chart)


def _images(thumbnail: Callable[[int], str]) -> Callable[[int], markupsafe.Markup]:
    """Return what draws the picture of a row."""
    tag = markupsafe.Markup('<img alt="" src="data:image/jpeg;base64,{}">')
    return lambda row: tag.format(thumbnail(row))
