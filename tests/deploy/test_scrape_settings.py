"""The two ways by which Prometheus finds the pods of runs give the same targets."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
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


def scrape_config(name: str) -> dict[str, Any]:
    jobs = {job["job_name"]: job for job in yaml.safe_load(SCRAPE_CONFIG.read_text())}
    return dict(jobs[name])


def endpoint(values: dict[str, Any], pods: str) -> dict[str, Any]:
    """How the PodMonitor for pods that are called so in its name scrapes them."""
    monitor = render(values).one("PodMonitor", f"kinetoscope-{pods}", "kubeflow")
    (found,) = monitor["spec"]["podMetricsEndpoints"]
    return dict(found)


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
    monitors = [
        m for m in rendering.kind("PodMonitor") if m["metadata"]["name"] == "kinetoscope-training"
    ]
    assert [item["metadata"]["namespace"] for item in monitors] == ["one", "two"]
    templates = rendering.one("ConfigMap", "kinetoscope-templates", "one")
    runtime = yaml.safe_load(templates["data"]["training-runtime.yaml"])
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    labels = job["template"]["spec"]["template"]["metadata"]["labels"]
    for monitor in monitors:
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert "namespaceSelector" not in monitor["spec"]  # its own namespace


@pytest.mark.parametrize("pods", ["training", "steps"])
def test_the_interval_is_a_value(pods: str) -> None:
    values = merged(MINIMAL, {"monitoring": {"scrapeIntervalSeconds": 40}})
    assert endpoint(values, pods)["interval"] == "40s"


def test_both_ways_label_targets_alike() -> None:
    monitored = endpoint(MINIMAL, "training")
    assert monitored["port"] == "metrics"
    by_monitor = [_snake(rule) for rule in monitored["relabelings"]]
    config = scrape_config("kinetoscope")
    assert all(rule in config["relabel_configs"] for rule in by_monitor)
    assert config["metric_relabel_configs"] == monitored["metricRelabelings"]
    assert {rule["target_label"] for rule in by_monitor} == {"run", "stage", "job"}
    # The operator sets namespace and pod by itself.
    targets = {rule.get("target_label") for rule in config["relabel_configs"]}
    assert {"namespace", "pod"} <= targets


def test_pods_of_steps_are_found_by_the_labels_that_they_have() -> None:
    names = [{"name": name, "serviceAccount": "default-editor"} for name in ("one", "two")]
    values = merged(MINIMAL, {"runNamespaces": names, "nameOverride": "other"})
    rendering = render(values, release="prod")
    monitors = [m for m in rendering.kind("PodMonitor") if "steps" in m["metadata"]["name"]]
    assert [item["metadata"]["namespace"] for item in monitors] == ["one", "two"]
    labels = step_labels("prod-other")
    for monitor in monitors:
        assert monitor["spec"]["selector"] == {"matchLabels": labels}
        assert "namespaceSelector" not in monitor["spec"]  # its own namespace
    keep = scrape_config("kinetoscope-steps")["relabel_configs"][0]
    found = ";".join(labels[_label(source)] for source in keep["source_labels"])
    assert re.fullmatch(keep["regex"], found)


def test_pods_of_steps_are_asked_at_the_metrics_port_that_they_do_not_name() -> None:
    monitored = endpoint(merged(MINIMAL, {"training": {"metricsPort": 9999}}), "steps")
    # Either would keep only targets of a container that declares the port.
    assert not {"port", "portNumber", "targetPort"} & set(monitored)
    assert _address(monitored["relabelings"], "10.0.0.7") == "10.0.0.7:9999"
    assert _address(monitored["relabelings"], "fd00::7") == "[fd00::7]:9999"
    config = scrape_config("kinetoscope-steps")["relabel_configs"]
    assert _address(config, "10.0.0.7") == "10.0.0.7:9464"
    assert _address(config, "fd00::7") == "[fd00::7]:9464"


def test_series_of_steps_keep_their_own_run_and_stage() -> None:
    monitored, config = endpoint(MINIMAL, "steps"), scrape_config("kinetoscope-steps")
    by_monitor = [_snake(rule) for rule in monitored["relabelings"]]
    assert all(rule in config["relabel_configs"] for rule in by_monitor)
    targets = {rule.get("target_label") for rule in config["relabel_configs"]}
    # A target with such labels would push the series' own aside.
    assert not {"run", "stage"} & targets
    assert {"namespace", "pod", "job"} <= targets
    for settings in (monitored, config):
        assert not {"honorLabels", "honor_labels", "metricRelabelings"} & set(settings)
    # Nor may the alerts on silent targets wait for a task that only launches a training.
    assert by_monitor[-1] == {"target_label": "job", "replacement": "kinetoscope-steps"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing")
def test_prometheus_takes_the_relabelings(tmp_path: Path) -> None:
    jobs = yaml.safe_load(SCRAPE_CONFIG.read_text())
    for job in jobs:  # Debian's knows no Kubernetes
        del job["kubernetes_sd_configs"]
        job["static_configs"] = [{"targets": ["localhost:1"]}]
    monitored = [_snake(rule) for rule in endpoint(MINIMAL, "steps")["relabelings"]]
    jobs.append({"job_name": "operator", "relabel_configs": monitored})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"scrape_configs": jobs}))
    command = ["promtool", "check", "config", str(tmp_path / "config.yaml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("namespace", ["", "monitoring"])
def test_only_prometheus_reaches_the_pods_of_steps(namespace: str) -> None:
    values = merged(MINIMAL, {"monitoring": {"namespace": namespace}})
    policy = render(values).one("NetworkPolicy", "kinetoscope-steps", "kubeflow")["spec"]
    assert policy["podSelector"] == {"matchLabels": step_labels("kinetoscope")}
    assert policy["policyTypes"] == ["Ingress"]
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": 9464}]
    chosen = {"matchLabels": {"kubernetes.io/metadata.name": namespace}} if namespace else {}
    assert rule["from"] == [{"namespaceSelector": chosen}]


def step_labels(fullname: str) -> dict[str, str]:
    """What the pods of a pipeline's tasks are labelled with, of a release's objects so called."""
    return {
        "app.kubernetes.io/name": "kinetoscope",
        "app.kubernetes.io/instance": fullname,
        "app.kubernetes.io/component": "step",
    }


def _label(source: str) -> str:
    name = source.removeprefix("__meta_kubernetes_pod_label_app_kubernetes_io_")
    return f"app.kubernetes.io/{name}"


def _address(rules: list[dict[str, Any]], ip: str) -> str:
    """Return the address that relabelings make of a pod's, as Prometheus does."""
    address = ip
    for rule in map(_snake, rules):
        if rule.get("target_label") == "__address__":
            assert rule["source_labels"] == ["__meta_kubernetes_pod_ip"]
            if found := re.fullmatch(rule["regex"], ip):
                address = rule["replacement"].replace("$1", found[1])
    return address


def _snake(rule: dict[str, Any]) -> dict[str, Any]:
    return {re.sub("([A-Z])", lambda m: "_" + m[1].lower(), key): v for key, v in rule.items()}
