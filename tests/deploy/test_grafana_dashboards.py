"""The dashboards hold together, and show nothing that is not there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_values import merged
from promql_names import series_names, unknown_names
from rendering import CHART, MINIMAL, render

FILES = sorted((CHART / "files" / "monitoring" / "dashboards").glob("*.json"))
RULES = CHART / "files" / "monitoring" / "rules.yaml"
ALL = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
VARIABLES = ["datasource", "namespace", "run", "stage"]


def dashboard(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def expressions(path: Path) -> Iterator[str]:
    for panel in dashboard(path)["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_there_is_one_for_a_run_one_for_health_and_one_for_the_fleet() -> None:
    assert [path.stem for path in FILES] == ["fleet", "health", "training-run"]


def test_uids_are_unique_and_short_enough() -> None:
    uids = [dashboard(path)["uid"] for path in FILES]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"[a-z0-9-]{1,40}", uid) for uid in uids)


@ALL
def test_the_datasource_and_what_is_shown_are_chosen_by_variables(path: Path) -> None:
    board = dashboard(path)
    assert board["schemaVersion"] >= 36
    assert [variable["name"] for variable in board["templating"]["list"]] == VARIABLES
    used = re.findall(r'"uid": "([^"]+)"', json.dumps(board["panels"]))
    assert set(used) == {"${datasource}"}
    own = " ".join(expressions(path))
    assert all(f'{name}=~"${name}"' in own for name in VARIABLES[1:])


@ALL
def test_a_panel_has_a_title_a_unit_and_a_query(path: Path) -> None:
    panels = dashboard(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        assert all(series_names(target["expr"]) for target in panel["targets"])


@ALL
def test_panels_do_not_overlap(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard(path)["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert columns.stop <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@ALL
def test_queries_read_only_series_that_something_feeds(path: Path) -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    unknown = {expr: unknown_names(expr, recorded) for expr in expressions(path)}
    assert unknown
    assert {expr: names for expr, names in unknown.items() if names} == {}


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing (Debian's package prometheus)"
)
@ALL
def test_queries_are_valid(path: Path, tmp_path: Path) -> None:
    rules = [
        {"record": f"query_{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, expr in enumerate(expressions(path))
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    command = ["promtool", "check", "rules", "--lint=none", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@ALL
def test_the_chart_ships_them_where_grafana_looks(path: Path) -> None:
    values = {"dashboardLabels": {"found_by": "me"}, "dashboardFolder": "Video"}
    rendering = render(merged(MINIMAL, {"monitoring": values}))
    item = rendering.one("ConfigMap", f"kinetoscope-dashboard-{path.stem}", "kinetoscope")
    assert item["metadata"]["labels"]["found_by"] == "me"
    assert item["metadata"]["annotations"]["grafana_folder"] == "Video"
    (content,) = item["data"].values()
    assert json.loads(content) == dashboard(path)
