"""Profiles hold no secret, name exactly one way to connect, and stay in a private file."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.kube.connection import connect
from kinetoscope.kube.profiles import (
    Profile,
    Profiles,
    choose_profile,
    load_profiles,
    make_profile,
    save_profiles,
)

runner = CliRunner()

SECRET = "hunter2"  # noqa: S105  # not one


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "profiles.yaml"
    monkeypatch.setenv("KINO_PROFILES", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return path


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    return path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


def test_profiles_come_back_as_they_were_saved_for_their_owner_only(path: Path) -> None:
    profiles = (
        Profiles()
        .with_profile(Profile(name="lab", context="admin", namespace="runs"))
        .with_profile(make_profile(name="pod", in_cluster=True, release="kino"))
        .with_profile(
            make_profile(name="far", endpoint="https://k8s:6443/", token_file=Path("~/t"))
        )
    )
    assert save_profiles(profiles) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_profiles() == profiles
    assert profiles.get("far").endpoint == "https://k8s:6443"
    assert profiles.get("far").token_file == Path.home() / "t"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_first_profile_is_current_until_another_is_chosen() -> None:
    profiles = Profiles().with_profile(Profile(name="a")).with_profile(Profile(name="b"))
    assert profiles.current == "a"
    save_profiles(profiles.with_current("b"))
    assert choose_profile().name == "b"
    assert choose_profile("a", namespace="other").namespace == "other"
    assert profiles.without("a").current is None
    with pytest.raises(NotFoundError, match="it has: a, b"):
        choose_profile("c")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"in_cluster": True, "context": "lab"}, "give one of"),
        ({"endpoint": "https://h"}, "needs token_file"),
        ({"token_file": "/t"}, "belong to endpoint"),
        ({"endpoint": "http://h", "token_file": "/t"}, "must be https://"),
        ({"endpoint": f"https://u:{SECRET}@h", "token_file": "/t"}, "holds a user name"),
        ({"endpoint": f"https://h/?token={SECRET}", "token_file": "/t"}, "must be https://"),
        ({"kubeconfig": "config"}, "give an absolute path"),
        ({"namespace": "Runs"}, "namespace"),
        ({"token": SECRET}, "token: unknown key; allowed: name, namespace"),
    ],
)
def test_a_profile_with_no_or_two_ways_or_a_secret_is_refused(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        make_profile(name="x", **values)
    assert SECRET not in f"{error.value.message}{error.value.hint}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"profiles: [{{name: x, token: {SECRET}}}]", "profiles.0.token: unknown key"),
        (f"profiles: [{{name: x, token_file: [{SECRET}]}}]", "profiles.0.token_file"),
        (f"profiles: [{{name: x}}]\n{SECRET}: [", "line"),
        ("profiles: [{name: x}, {name: x}]", "two profiles are named x"),
        ("current: y\nprofiles: [{name: x}]", "current names 'y'"),
    ],
)
def test_a_broken_file_is_refused_without_repeating_it(path: Path, text: str, message: str) -> None:
    write(path, text)
    with pytest.raises(ConfigError, match=message) as error:
        load_profiles()
    assert SECRET not in f"{error.value.message}{error.value.hint}"


def test_a_file_that_others_may_write_to_is_refused(path: Path) -> None:
    write(path, "profiles: []")
    path.chmod(0o620)
    with pytest.raises(ConfigError, match="may be written by other users"):
        load_profiles()


def test_without_a_file_the_environment_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_profile() == Profile(name="default")
    with pytest.raises(ConfigError, match=r"neither \$KUBECONFIG nor ~/.kube/config"):
        connect(choose_profile())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert choose_profile().in_cluster
    assert choose_profile().release == "kinetoscope"
    monkeypatch.setenv("KINO_RELEASE", "kino-test-kinetoscope")
    assert choose_profile().release == "kino-test-kinetoscope"
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "admin.conf"))
    assert not choose_profile().in_cluster


def test_a_rotated_token_is_read_again(token_file: Path) -> None:
    profile = make_profile(name="x", endpoint="https://h:1", token_file=token_file)
    configuration = connect(profile).api.configuration
    assert configuration.get_api_key_with_prefix("authorization") == f"Bearer {SECRET}"
    token_file.write_text("next")
    assert configuration.get_api_key_with_prefix("authorization") == "Bearer next"
    token_file.unlink()
    with pytest.raises(ConfigError, match=f"token_file {token_file}"):
        configuration.get_api_key_with_prefix("authorization")


@pytest.mark.parametrize(
    ("release", "fullname"),
    [
        ("kinetoscope", "kinetoscope"),
        ("my-kinetoscope", "my-kinetoscope"),
        ("prod", "prod-kinetoscope"),
    ],
)
def test_objects_are_named_as_the_chart_names_them(
    token_file: Path, release: str, fullname: str
) -> None:
    profile = make_profile(name="x", release=release, endpoint="https://h:1", token_file=token_file)
    assert connect(profile).fullname == fullname


def test_the_verbs_keep_profiles(path: Path, token_file: Path) -> None:
    def kino(*words: str) -> str:
        result = runner.invoke(app, ["config", "profiles", *words])
        assert result.exit_code == 0, result.output
        return result.stdout

    kino("add", "lab", "--context", "admin")
    kino("add", "far", "--endpoint", "https://h:1", "--token-file", str(token_file))
    assert "*  lab" in kino("list")
    kino("use", "far")
    assert json.loads(kino("show", "--json"))["endpoint"] == "https://h:1"
    kino("rm", "lab")
    listed = json.loads(kino("list", "--json"))
    assert (listed["file"], listed["current"]) == (str(path), "far")
    assert [one["name"] for one in listed["profiles"]] == ["far"]
    assert SECRET not in path.read_text()
    twice = runner.invoke(app, ["config", "profiles", "add", "far", "--in-cluster"])
    assert twice.exit_code == 2
    assert "there is a profile 'far' already" in twice.stderr
