"""What the chart tells of a release, so that pods of steps can be given what they need."""

from __future__ import annotations

import pytest
from chart_values import merged
from rendering import MINIMAL, ROOT, ChartRefusedError, render
from values_schema import nest


@pytest.mark.parametrize("name", ["kube-root-ca.crt", 64 * "a", "workspace"])
@pytest.mark.parametrize("setting", ["existingSecret", "ca.existingConfigMap"])
def test_names_that_a_step_s_volumes_can_t_have_are_refused(setting: str, name: str) -> None:
    given = {"objectStore": nest(tuple(setting.split(".")), name)}
    with pytest.raises(ChartRefusedError, match=rf"objectStore\.{setting} is {name}, which can't"):
        render(merged(MINIMAL, given))


def test_a_step_has_no_two_volumes_of_one_name() -> None:
    given = {"existingSecret": "same", "ca": {"existingConfigMap": "same"}}
    with pytest.raises(ChartRefusedError, match=r"are both same: .* rename one of them"):
        render(merged(MINIMAL, {"objectStore": given}))


@pytest.mark.parametrize(("kind", "keys"), [("token", "token"), ("basic", "username,password")])
def test_the_environment_names_all_that_a_step_s_pod_needs(kind: str, keys: str) -> None:
    given = {
        "images": {"pullSecrets": ["one", "two"], "pullPolicy": "Always"},
        "objectStore": {
            "secretKeys": {"accessKey": "AWS_ACCESS_KEY_ID", "secretKey": "AWS_SECRET_ACCESS_KEY"},
            "ca": {"existingConfigMap": "private-ca", "key": "bundle.pem"},
        },
        "mlflow": {
            "enabled": False,
            "externalUri": "https://mlflow.example.org",
            "auth": {"existingSecret": "mlflow-login", "kind": kind},
        },
        "training": {"workspace": {"sizeLimit": "2Ti"}, "shm": {"sizeLimit": "32Gi"}},
    }
    data = render(merged(MINIMAL, given)).one("ConfigMap", "kinetoscope-environment", "kubeflow")
    told = {
        "KINO_STORE_SECRET": "object-store",
        "KINO_STORE_SECRET_KEYS": "AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY",
        "KINO_STORE_CA_CONFIG_MAP": "private-ca",
        "KINO_S3_CA_FILE": "/etc/kinetoscope/object-store-ca/bundle.pem",
        "KINO_MLFLOW_SECRET": "mlflow-login",
        "KINO_MLFLOW_SECRET_KEYS": keys,
        "KINO_PULL_POLICY": "Always",
        "KINO_PULL_SECRETS": "one,two",
        "KINO_WORKSPACE_SIZE": "2Ti",
        "KINO_SHM_SIZE": "32Gi",
    }
    assert told.items() <= data["data"].items()
    # Training pods get them all and read none that is there for the pipeline alone.
    settings = (ROOT / "platform" / "kinetoscope" / "core" / "settings.py").read_text()
    assert [name for name in told if name in settings] == ["KINO_S3_CA_FILE"]
