"""The chart's rules, checked and run by Prometheus' own tool, each shown to be tested."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_values import merged
from promql_names import series_names, unknown_names
from rendering import CHART, MINIMAL, ROOT, render

RULES = CHART / "files" / "monitoring" / "rules.yaml"
SCENARIOS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
DOCS = ROOT / "docs" / "monitoring.md"
# An alert's expression made to fire too easily: some scenario must have a case where it does not.
LOOSENED = {
    "KinetoscopeLossNotFinite": (") > 0\n", ") >= 0\n"),
    "KinetoscopeTrainingStalled": ("600)", "60)"),
    "KinetoscopeTrainingNotStarted": ("== 0", ">= 0"),
    "KinetoscopeCheckpointTooOld": ("> 7200", "> 60"),
    "KinetoscopeDataBound": ("> 0.3", "> 0.1"),
    "KinetoscopeRanksImbalanced": ("> 1.3", "> 1.05"),
    "KinetoscopeScrapeTargetDown": ('{job="kinetoscope"}', ""),
    "KinetoscopeScrapeTargetAbsent": ('unless on (namespace, pod) up{job="kinetoscope"}', ""),
    "KinetoscopeRestartsOften": ("> 4", "> 3"),
    "KinetoscopePodPending": ("kinetoscope-training", "default"),
    "KinetoscopeGPUIdle": ("< 0.1", "< 0.85"),
    "KinetoscopeGPUError": ("!= 0", ">= 0"),
}

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing (Debian's package prometheus)"
)


def groups(path: Path = RULES) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())["groups"]
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"]]


def name(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"])


ALERTS = [pytest.param(rule, id=name(rule)) for rule in rules() if "alert" in rule]
ALL = [pytest.param(rule, id=name(rule)) for rule in rules()]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run_scenarios(folder: Path, changed: str, expression: str) -> subprocess.CompletedProcess[str]:
    """Run the scenarios that name a rule, with its expression replaced."""
    broken = {"groups": groups()}
    for group in broken["groups"]:
        for rule in group["rules"]:
            if name(rule) == changed:
                rule["expr"] = expression
    (folder / "rules.yaml").write_text(yaml.safe_dump(broken))
    for path in SCENARIOS:
        if changed not in path.read_text():
            continue
        scenario = yaml.safe_load(path.read_text()) | {"rule_files": ["rules.yaml"]}
        (folder / f"test-{path.name}").write_text(yaml.safe_dump(scenario))
    return run("test", "rules", *sorted(folder.glob("test-*.yaml")))


@promtool
def test_the_rules_are_valid() -> None:
    done = run("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_rules_do_what_the_scenarios_say(path: Path) -> None:
    done = run("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
@pytest.mark.parametrize("rule", ALL)
def test_a_rule_that_never_gives_anything_is_noticed(rule: dict[str, Any], tmp_path: Path) -> None:
    done = run_scenarios(tmp_path, name(rule), f"({rule['expr']}) and on () (vector(0) > 1)")
    assert done.returncode != 0
    assert name(rule) in done.stdout + done.stderr


@promtool
@pytest.mark.parametrize("rule", ALERTS)
def test_an_alert_that_fires_too_easily_is_noticed(rule: dict[str, Any], tmp_path: Path) -> None:
    strict, loose = LOOSENED[rule["alert"]]
    assert strict in rule["expr"]
    done = run_scenarios(tmp_path, name(rule), rule["expr"].replace(strict, loose))
    assert done.returncode != 0
    assert name(rule) in done.stdout + done.stderr


@pytest.mark.parametrize("rule", ALERTS)
def test_an_alert_says_what_to_do_and_where_to_read_on(rule: dict[str, Any]) -> None:
    annotations = rule["annotations"]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(annotations) == {"summary", "description", "runbook"}
    assert len(annotations["description"]) > len(annotations["summary"]) > 10
    page, _, anchor = annotations["runbook"].partition("#")
    assert ROOT / page == DOCS
    headings = re.findall(r"^#+ (.+)$", DOCS.read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", ALERTS)
def test_an_alert_names_only_labels_that_it_has(rule: dict[str, Any]) -> None:
    samples = [
        sample["labels"]
        for path in SCENARIOS
        for scenario in yaml.safe_load(path.read_text())["tests"]
        for case in scenario["promql_expr_test"]
        for sample in case["exp_samples"]
        if f'alertname="{rule["alert"]}"' in sample["labels"]
    ]
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert samples
    assert all(named <= set(re.findall(r"(\w+)=", sample)) for sample in samples)


@pytest.mark.parametrize("rule", ALL)
def test_a_rule_reads_only_series_that_something_feeds(rule: dict[str, Any]) -> None:
    recorded = {name(other) for other in rules() if "record" in other}
    assert series_names(rule["expr"])
    assert unknown_names(rule["expr"], recorded) == set()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('sum by (run) (rate(kino_x_total{run=~"a{2}"}[5m])) > 0.3', {"kino_x_total"}),
        ("a:b:c offset 2h unless on (pod) up", {"a:b:c", "up"}),
        ('label_replace(kino_y, "pod", "$1", "kino_z", "(.+)")', {"kino_y"}),
        ("histogram_quantile(0.95, kino_b_bucket) > clamp_min(2, 600)", {"kino_b_bucket"}),
    ],
)
def test_names_of_series_are_found(expression: str, expected: set[str]) -> None:
    assert series_names(expression) == expected


def test_series_that_nobody_serves_are_unknown() -> None:
    expression = "kino_train_loss + kino_train_loss_total + kino_typo_total"
    assert unknown_names(expression, set()) == {"kino_train_loss_total", "kino_typo_total"}


@pytest.mark.parametrize("release", ["kinetoscope", "video"])
def test_the_chart_ships_this_very_file(release: str) -> None:
    rendering = render(MINIMAL, release=release)
    fullname = "kinetoscope" if release == "kinetoscope" else f"{release}-kinetoscope"
    own = RULES.read_text().replace("kinetoscope-training", f"{fullname}-training")
    rule = rendering.one("PrometheusRule", fullname)
    assert rule["spec"] == yaml.safe_load(own)
    assert rendering.one("ServiceAccount", f"{fullname}-training", "kubeflow")
    assert f'service_account="{fullname}-training"' in str(rule["spec"])


def test_labels_select_the_objects_for_an_operator() -> None:
    labels = {"podMonitorLabels": {"release": "p"}, "prometheusRuleLabels": {"release": "r"}}
    rendering = render(merged(MINIMAL, {"monitoring": labels}))
    assert (
        rendering.one("PodMonitor", "kinetoscope-training")["metadata"]["labels"]["release"] == "p"
    )
    assert rendering.one("PrometheusRule", "kinetoscope")["metadata"]["labels"]["release"] == "r"
