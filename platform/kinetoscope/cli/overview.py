"""What a run made, for people."""

from __future__ import annotations

from typing import Any

from kinetoscope.cli.live import progress_text
from kinetoscope.cli.output import local_time, table
from kinetoscope.core.units import format_seconds

_SHOWN_QUARANTINE = 10


def overview(summary: dict[str, Any]) -> str:
    """Return the text of ``kino show`` for what ``run_summary`` told."""
    parts = [
        f"run {summary['run']} ({summary['name']}): {summary['state']}, "
        f"created {local_time(summary['created_at'])}"
    ]
    if summary.get("reason"):
        parts.append(f"  {summary['reason']}")
    parts += ["", steps_table(summary["steps"]), ""]
    parts += _code_versions(summary["steps"])
    parts += _scores(summary["scores"])
    parts += _quarantine(summary["quarantine"])
    model = summary["model"]
    if model:
        aliases = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
        parts.append(f"model   {model['name']}/{model['version']}{aliases}")
    for key in ("sample", "clips", "report"):
        if summary[key]:
            parts.append(f"{key:<8}{summary[key]}")
    if model:
        ref = f"{model['name']}/{model['version']}"
        parts.append(f"\nkino generate PROMPT --model {ref} makes a clip")
    return "\n".join(parts)


def steps_table(steps: list[dict[str, Any]]) -> str:
    """Return the rows of ``run_status`` as a table."""
    rows = [
        (
            step["name"],
            step["state"] + (" (cached)" if step["cached"] else ""),
            format_seconds(step["seconds"]) if step["seconds"] else "-",
            str(step["attempts"] or "-"),
            progress_text(step),
        )
        for step in steps
    ]
    return table(("step", "state", "time", "attempts", ""), rows)


def _code_versions(steps: list[dict[str, Any]]) -> list[str]:
    """Tell of steps that more than one version of the code worked on."""
    mixed = [row for row in steps if len(row["code_versions"]) > 1]
    lines = [f"{row['name']} was made by {', then '.join(row['code_versions'])}" for row in mixed]
    return [*lines, *[""] * bool(lines)]


def _scores(scores: dict[str, float]) -> list[str]:
    return [f"{name:<28}{value:.4g}" for name, value in sorted(scores.items())] + [""] * bool(
        scores
    )


def _quarantine(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = [f"{len(rows)} files in quarantine:"]
    lines += [f"  {row['path']}: {row['reason']}" for row in rows[:_SHOWN_QUARANTINE]]
    if len(rows) > _SHOWN_QUARANTINE:
        lines.append(f"  and {len(rows) - _SHOWN_QUARANTINE} more (--json lists all)")
    return [*lines, ""]
