"""The two ways by which Prometheus finds training pods give the same targets."""

from __future__ import annotations

import re
from typing import Any

import yaml
from chart_values import merged
from rendering import CHART, MINIMAL, Object, render

SCRAPE_CONFIG = CHART / "files" / "monitoring" / "scrape-config.yaml"


def training_pod(values: dict[str, Any]) -> tuple[Object, Object]:
    """The pod template of the runtime that the launcher renders TrainJobs from, and its Job's."""
    templates = render(values).one("ConfigMap", "kinetoscope-templates", "kubeflow")
    runtime = yaml.safe_load(templates["data"]["training-runtime.yaml"])
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"], job


def scrape_config() -> dict[str, Any]:
    (job,) = yaml.safe_load(SCRAPE_CONFIG.read_text())
    return dict(job)


def test_training_pods_carry_the_annotations_and_serve_where_these_say() -> None:
    pod, _ = training_pod(merged(MINIMAL, {"training": {"metricsPort": 9999}}))
    annotations = pod["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == "9999"
    assert annotations["prometheus.io/path"] == "/metrics"
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["metrics"] == 9999


def test_the_annotations_can_be_left_out() -> None:
    pod, _ = training_pod(merged(MINIMAL, {"monitoring": {"scrapeAnnotations": False}}))
    annotations = pod["metadata"].get("annotations") or {}
    assert not [name for name in annotations if name.startswith("prometheus.io/")]


def test_a_pod_monitor_selects_training_pods_in_every_run_namespace() -> None:
    names = [{"name": name, "serviceAccount": "default-editor"} for name in ("one", "two")]
    rendering = render(merged(MINIMAL, {"runNamespaces": names}))
    monitors = rendering.kind("PodMonitor")
    assert [item["metadata"]["namespace"] for item in monitors] == ["one", "two"]
    templates = rendering.one("ConfigMap", "kinetoscope-templates", "one")
    runtime = yaml.safe_load(templates["data"]["training-runtime.yaml"])
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    labels = job["template"]["spec"]["template"]["metadata"]["labels"]
    for monitor in monitors:
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert "namespaceSelector" not in monitor["spec"]  # its own namespace


def test_the_interval_is_a_value() -> None:
    rendering = render(merged(MINIMAL, {"monitoring": {"scrapeIntervalSeconds": 40}}))
    (endpoint,) = rendering.one("PodMonitor", "kinetoscope-training")["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["interval"]) == ("metrics", "40s")


def test_both_ways_label_targets_alike() -> None:
    (endpoint,) = render(MINIMAL).one("PodMonitor", "kinetoscope-training")["spec"][
        "podMetricsEndpoints"
    ]
    by_monitor = [_snake(rule) for rule in endpoint["relabelings"]]
    config = scrape_config()
    assert all(rule in config["relabel_configs"] for rule in by_monitor)
    assert config["metric_relabel_configs"] == endpoint["metricRelabelings"]
    assert {rule["target_label"] for rule in by_monitor} == {"run", "stage", "job"}
    # The operator sets namespace and pod by itself.
    targets = {rule.get("target_label") for rule in config["relabel_configs"]}
    assert {"namespace", "pod"} <= targets


def _snake(rule: dict[str, Any]) -> dict[str, Any]:
    return {re.sub("([A-Z])", lambda m: "_" + m[1].lower(), key): v for key, v in rule.items()}
