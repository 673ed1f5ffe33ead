"""``kino status``: how far a run is, and the live metrics of its training."""

from __future__ import annotations

from typing import Any

from kinetoscope.cli.verbs.options import Json, On, Place, ProfileName, RunName, go_to

EXAMPLE = "Example: kino status last"


def status(
    run: RunName = "last",
    on: On = Place.laptop,
    profile: ProfileName = None,
    as_json: Json = False,
) -> None:
    """Show a run's state, its steps and, while one trains, the metrics that it serves."""
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.cli.overview import steps_table
    from kinetoscope.core.settings import workspace
    from kinetoscope.runs.find import find_run
    from kinetoscope.runs.jobs.told import job_lines
    from kinetoscope.runs.view import run_status

    go_to(on, profile)
    told = run_status(find_run(workspace().store_uri, run))
    told["metrics"] = _live_metrics(told["steps"])
    if as_json:
        emit_json(told)
        return
    say(f"run {told['run']} ({told['name']}): {told['state']}")
    for key in ("reason", "hint"):
        if told[key]:
            say(f"  {told[key]}")
    say("", *steps_table(told["steps"]))
    for step in told["steps"]:
        say(*job_lines(step))
    for name, value in told["metrics"].items():
        if "_bucket{" not in name:  # a histogram's count and sum say enough to a person
            say(f"{name:<60}{value:.6g}")


def _live_metrics(steps: list[dict[str, Any]]) -> dict[str, float]:
    from kinetoscope.core.errors import KinetoscopeError
    from kinetoscope.telemetry.scrape import scrape

    urls = [step["metrics_url"] for step in steps if step["metrics_url"]]
    metrics: dict[str, float] = {}
    for url in urls:
        try:
            metrics |= scrape(url)
        except KinetoscopeError:  # the step ended since it said where it serves
            continue
    return {name: value for name, value in metrics.items() if name.startswith("kino_")}
