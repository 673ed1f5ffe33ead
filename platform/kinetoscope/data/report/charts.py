"""Drawings of the report: SVG, made of numbers and words of ours alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import markupsafe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kinetoscope.data.report.histograms import Histogram

_WIDTH, _HEIGHT, _BASELINE = 280, 90, 104


def histogram_svg(histogram: Histogram) -> markupsafe.Markup:
    """Draw a histogram, dropped clips above kept ones, labelled with least and greatest value.

    A bin with clips is seen however few these are beside those of the others.
    """
    edges = histogram.edges
    if not edges:
        return markupsafe.Markup("<p>No finite value.</p>")
    bars = "".join(_bars(histogram))
    labels = (
        f'<text x="0" y="{_BASELINE}">{edges[0]:.4g}</text>'
        f'<text x="{_WIDTH}" y="{_BASELINE}" text-anchor="end">{edges[-1]:.4g}</text>'
    )
    return markupsafe.Markup(  # noqa: S704 (made of numbers alone)
        f'<svg width="{_WIDTH}" height="{_BASELINE + 4}" role="img">{bars}{labels}</svg>'
    )


def _bars(histogram: Histogram) -> Iterator[str]:
    pairs = list(zip(histogram.kept, histogram.dropped, strict=True))
    tallest, step = max(map(sum, pairs)), _WIDTH / len(pairs)
    edges = histogram.edges
    for index, (kept, dropped) in enumerate(pairs):
        if not kept + dropped:
            continue
        told = f"{edges[index]:.4g} to {edges[index + 1]:.4g}: {kept} kept, {dropped} dropped"
        total = max(1.0, _HEIGHT * (kept + dropped) / tallest)
        of_kept = total * kept / (kept + dropped)
        place = f'x="{index * step:.1f}" width="{step - 1:.1f}"'
        yield (
            f"<g><title>{told}</title>"
            f'<rect {place} y="{_HEIGHT - of_kept:.1f}" height="{of_kept:.1f}" fill="#4a7ebb"/>'
            f'<rect {place} y="{_HEIGHT - total:.1f}" height="{total - of_kept:.1f}" '
            f'fill="#c9c9c9"/></g>'
        )
