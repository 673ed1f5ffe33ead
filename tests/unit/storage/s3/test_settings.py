from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.settings import workspace
from kinetoscope.storage.open import open_store
from kinetoscope.storage.s3.connection import connect
from kinetoscope.storage.s3.credentials import CredentialsSource
from kinetoscope.storage.s3.settings import S3Location, S3Settings


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://models", "models", ""),
        ("s3://models/", "models", ""),
        ("s3://models/team-a/x/", "models", "team-a/x"),
        ("s3://models/a%20b%3Fc", "models", "a b?c"),
        ("s3://My.old_bucket/x", "My.old_bucket", "x"),
    ],
)
def test_a_uri_names_bucket_and_prefix(uri: str, bucket: str, prefix: str) -> None:
    assert S3Location.of(uri) == S3Location(bucket, prefix)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAEXAMPLE:hunter2@bucket/x",
        "s3://hunter2@bucket",
        "s3://bucket:9000/hunter2",
        "s3://AKIA:hunt/er2@bucket",
        "s4://AKIA:hunter2@bucket",
        "hunter2://x:y@bucket",
    ],
)
def test_a_uri_with_credentials_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigError) as told:
        open_store(uri)
    shown = "".join(traceback.format_exception(told.value, chain=True)) + str(told.value.hint)
    source = "open_store(uri)"
    assert "hunter2" not in shown.replace(source, "")
    assert "hunt/er2" not in shown


@pytest.mark.parametrize(
    "uri", ["s3://", "s3:///x", "s3://b", "s3://bucket/a?b", "s3://bucket/a#b"]
)
def test_a_uri_of_another_form_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="must read s3://BUCKET"):
        open_store(uri)


@pytest.mark.parametrize(
    "uri", ["s3://bucket//x", "s3://bucket/a/../b", "s3://bucket/..", "s3://bucket/%2e%2e/b"]
)
def test_a_prefix_cannot_leave_the_bucket(uri: str) -> None:
    with pytest.raises(ConfigError, match="has the prefix"):
        open_store(uri)


def test_a_store_is_cheap_to_open_and_shares_its_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = S3Settings.from_environment()
    assert (first.endpoint, first.region) == ("https://s3.amazonaws.com", "us-east-1")
    assert connect("bucket", first) is connect("bucket", S3Settings.from_environment())
    monkeypatch.setenv("KINO_S3_REGION", "eu-central-1")
    assert connect("bucket", first) is not connect("bucket", S3Settings.from_environment())
    store = open_store("s3://bucket/a%20b/")
    assert store.uri == "s3://bucket/a%20b"
    assert repr(store) == "S3Store('s3://bucket/a%20b')"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("KINO_S3_ENDPOINT", "minio:9000", "not http"),
        ("KINO_S3_ENDPOINT", "http://host/path", "not http"),
        ("KINO_S3_ENDPOINT", "http://user:hunter2@host", "holds a user"),
        ("KINO_S3_ENDPOINT", "http://host:port", "not a URL"),
        ("KINO_S3_ADDRESSING", "dns", "use one of auto, path, virtual"),
        ("KINO_S3_CA_FILE", "/no/such/file", "is no file"),
        ("KINO_S3_RETRY_SECONDS", "soon", "no number of seconds"),
        ("KINO_S3_RETRY_SECONDS", "-1", "no number of seconds"),
        ("KINO_S3_RETRY_SECONDS", "inf", "no number of seconds"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        open_store("s3://bucket")
    assert name in str(error.value)
    assert told in f"{error.value} {error.value.hint}"
    assert "hunter2" not in f"{error.value} {error.value.hint}"


def test_settings_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("")
    for name, value in {
        "ENDPOINT": "https://[::1]:9000/",
        "REGION": "eu-west-1",
        "ADDRESSING": "virtual",
        "CA_FILE": str(tmp_path / "ca"),
        "CREDENTIALS_PATH": str(tmp_path),
        "RETRY_SECONDS": "2.5",
    }.items():
        monkeypatch.setenv(f"KINO_S3_{name}", value)
    assert S3Settings.from_environment() == S3Settings(
        endpoint="https://[::1]:9000",
        region="eu-west-1",
        addressing="virtual",
        ca_file=tmp_path / "ca",
        credentials_path=tmp_path,
        retry_seconds=2.5,
    )
    with pytest.raises(ConfigError, match=r"KINO_S3_CA_FILE.*holds no CA certificates"):
        open_store("s3://bucket").stat("x")


def test_the_workspace_uses_the_given_store(monkeypatch: pytest.MonkeyPatch) -> None:
    assert workspace().store_uri == (workspace().root / "objects").as_uri()
    monkeypatch.setenv("KINO_STORE_URI", "s3://bucket/team/")
    assert workspace().store_uri == "s3://bucket/team"


def test_missing_credentials_name_both_ways(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    for source in (CredentialsSource(None), CredentialsSource(tmp_path)):
        with pytest.raises(ConfigError, match=r"no .*secret key in") as told:
            source.retrieve()
        assert "KINO_S3_CREDENTIALS_PATH" in (told.value.hint or "")
        assert "AWS_SECRET_ACCESS_KEY" in (told.value.hint or "")
        assert "AKIAEXAMPLE" not in f"{told.value} {told.value.hint}"
    # Asked for before anything is sent, and not tried again.
    with pytest.raises(ConfigError, match="there are no S3 credentials"):
        open_store("s3://bucket").list()


def test_credentials_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"AWS_{name}", f"hunter2-{name}")
    found = CredentialsSource(None).retrieve()
    assert found.access_key == "hunter2-ACCESS_KEY_ID"
    assert found.secret_key.startswith("hunter2-SECRET")
    assert (found.session_token or "").startswith("hunter2-SESSION")
    assert "hunter2" not in repr(found)


def test_files_win_and_are_read_again_when_replaced_by_a_link(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    # As Kubernetes lays a Secret out: links into a folder that is swapped as a whole.
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "access_key").write_text(f"key-{version}\n")
        (tmp_path / version / "secret_key").write_text(f"secret-{version}")
    (tmp_path / "..data").symlink_to("1")
    for name in ("access_key", "secret_key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    source = CredentialsSource(tmp_path)
    first = source.retrieve()
    assert (first.access_key, first.secret_key) == ("key-1", "secret-1")
    assert first.session_token is None
    assert source.retrieve() is first
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").replace(tmp_path / "..data")
    second = source.retrieve()
    assert (second.access_key, second.secret_key) == ("key-2", "secret-2")


@pytest.mark.parametrize("text", ["two words", "two\nlines", "\u00fcml", "\x00"])
def test_what_is_no_key_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    (tmp_path / "access_key").write_text("key")
    (tmp_path / "secret_key").write_text("secret")
    (tmp_path / "session_token").write_text(text)
    with pytest.raises(ConfigError, match=r"session token in .* holds spaces") as told:
        CredentialsSource(tmp_path).retrieve()
    assert text not in str(told.value)
