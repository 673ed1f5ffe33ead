"""What a run made, for people."""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import Any

from kinetoscope.cli.live import progress_text
from kinetoscope.cli.output import first_of, local_time, table
from kinetoscope.core.units import format_seconds


def overview(summary: dict[str, Any]) -> list[str]:
    """Return the lines of ``kino show`` for what ``run_summary`` told."""
    parts = [
        f"run {summary['run']} ({summary['name']}): {summary['state']}, "
        f"created {local_time(summary['created_at'])}"
    ]
    if summary.get("reason"):
        parts.append(f"  {summary['reason']}")
    parts += ["", *steps_table(summary["steps"]), ""]
    parts += _code_versions(summary["steps"])
    parts += _scores(summary["scores"])
    if summary["quarantine"]:
        parts += [*quarantine_lines(summary["quarantine"], summary["quarantine_file"]), ""]
    model = summary["model"]
    if model:
        parts.append(_model_line(model))
    for key in ("sample", "clips", "report"):
        if summary[key]:
            parts.append(f"{key:<8}{summary[key]}")
    if model and not model.get("deleted"):
        ref = f"{model['name']}/{model['version']}"
        parts += ["", f"kino generate PROMPT --model {ref} makes a clip"]
    return parts


def _model_line(model: dict[str, Any]) -> str:
    """Return the line of a version, and of when its aliases were what they are said to be."""
    gone = "not in the registry any more" if model.get("deleted") else ""
    told = gone or ", ".join(model["aliases"]) or "no alias"
    at = model["aliases_at"]
    when = "when it was registered" if at is None else f"as of {local_time(at)}"
    return f"model   {model['name']}/{model['version']} ({told}, {when})"


def quarantine_lines(rows: list[dict[str, Any]], path: str) -> list[str]:
    """Return how many files were not used, by reason, a few of each, and where all are listed."""
    if not rows:
        return []
    by_reason: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_reason.setdefault(row["reason"], []).append(row)
    often = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    counts = ", ".join(first_of([f"{reason}: {len(found)}" for reason, found in often], path))
    # In turns, so that no reason hides the others.
    turns = chain.from_iterable(zip_longest(*(found for _, found in often)))
    lines = [f"{row['path']}: {row['reason']} ({row['detail']})" for row in turns if row]
    head = f"{len(rows)} files in quarantine ({counts}):"
    return [head, *(f"  {line}" for line in first_of(lines, path))]


def bucket_lines(tables: dict[str, Any], rest: str) -> list[str]:
    """Return how clips fall into the buckets of each stage, the fullest buckets first.

    Args:
        tables: `data.report.bucket_table.BucketTable` as JSON, by the step of the stage.
        rest: where the other buckets are told.
    """
    lines = []
    for step, told in tables.items():
        taken = [row["num_clips"] for row in told["rows"]]
        lines.append(
            f"{step}: {len(taken)} buckets take {sum(taken)} of {told['num_clips']} clips to "
            "train on"
        )
        lines += [f"  {line}" for line in first_of(_buckets_table(told), rest)]
        lines += [f"  none, {reason}: {count}" for reason, count in told["left_out"].items()]
    return lines


def _buckets_table(told: dict[str, Any]) -> list[str]:
    rows = [
        (
            f"{row['resolution']} x {row['num_frames']}",
            f"{row['height']}x{row['width']}",
            str(row["num_clips"]),
            f"{row['num_clips'] / told['num_clips']:.1%}",
            str(row["batch_size"]),
        )
        for row in sorted(told["rows"], key=lambda row: -int(row["num_clips"]))
    ]
    return table(("bucket", "pixels", "clips", "share", "batch size"), rows)


def steps_table(steps: list[dict[str, Any]]) -> list[str]:
    """Return the rows of ``run_status`` as a table's lines."""
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


def step_lines(row: dict[str, Any]) -> list[str]:
    """Return the lines of ``kino show --step`` for a row of ``run_status``."""
    return [
        *steps_table([row]),
        *(f"  node {n['node']}: {n['state']}" for n in row.get("nodes", [])),
    ]


def history_lines(entries: list[dict[str, Any]]) -> list[str]:
    """Return what `runs.view.step_history` told as a story, a line for each entry."""
    lines = [f"{local_time(e['at'])}  attempt {e['attempt']} {e['text']}" for e in entries]
    return ["", *lines] if lines else []


def _code_versions(steps: list[dict[str, Any]]) -> list[str]:
    """Tell of steps that more than one version of the code worked on."""
    mixed = [row for row in steps if len(row["code_versions"]) > 1]
    lines = [f"{row['name']} was made by {', then '.join(row['code_versions'])}" for row in mixed]
    return [*lines, *[""] * bool(lines)]


def _scores(scores: dict[str, float]) -> list[str]:
    return [f"{name:<28}{value:.4g}" for name, value in sorted(scores.items())] + [""] * bool(
        scores
    )
