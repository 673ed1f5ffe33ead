"""The doctor on buckets that delete objects by themselves, on a real S3 server."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from kinetoscope.core.findings import Finding
from kinetoscope.doctor.step_store import examine_step_store
from kinetoscope.storage.s3.connection import Message, connect
from kinetoscope.storage.s3.settings import S3Settings

DAYS = "<Expiration><Days>30</Days></Expiration>"
Examine = Callable[..., Finding]


def rule(what: str = DAYS, where: str = "", *, status: str = "Enabled") -> str:
    """One rule, with the prefix ``where`` or another filter."""
    narrow = where if where.startswith("<") else f"<Prefix>{where}</Prefix>"
    return f"<Rule><ID>r</ID><Status>{status}</Status><Filter>{narrow}</Filter>{what}</Rule>"


@pytest.fixture
def examine(minio: Any, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Give the bucket rules; return what the doctor says of a store in it."""
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINO_S3_RETRY_SECONDS", "1")
    connection = connect(minio.bucket, S3Settings.from_environment())

    def examine(*rules: str, folder: str = "team") -> Finding:
        text = "".join(one.replace("<ID>", f"<ID>{n}") for n, one in enumerate(rules))
        body = f"<LifecycleConfiguration>{text}</LifecycleConfiguration>".encode()
        digest = b64encode(hashlib.md5(body).digest()).decode()  # noqa: S324 (as S3 has it)
        query, headers = {"lifecycle": ""}, {"Content-MD5": digest}
        message = Message("PUT" if rules else "DELETE", None, body, headers, query)
        connection.request(message, doing="change the rules of")
        used, lifecycle = examine_step_store(f"s3://{minio.bucket}/{folder}".rstrip("/"))
        assert (used.state, lifecycle.check) == ("ok", "bucket lifecycle")
        return lifecycle

    return examine


@pytest.mark.parametrize(
    "one",
    [
        rule(),
        rule(where="team"),
        rule(where="team/steps/train"),
        rule(where="team/steps/train_dit_1/0123456789abcdef/led"),
        rule(where="team/steps/train_dit_1/0123456789abcdef/ledger/0000"),
        rule("<Expiration><Date>2031-01-01T00:00:00Z</Date></Expiration>", "team/"),
        rule(where="<And><Prefix>team/</Prefix><ObjectSizeLessThan>999</ObjectSizeLessThan></And>"),
    ],
)
def test_a_rule_that_deletes_what_steps_have_noted_is_told(examine: Examine, one: str) -> None:
    found = examine(rule(where="elsewhere/"), one)
    assert found.state == "poor"
    assert "rule '1r' deletes objects below" in found.found
    assert ("after 30 days" in found.found) != ("on 2031-01-01" in found.found)
    assert "elsewhere" not in found.found
    assert "steps/*/*/ledger/*" in found.hint


@pytest.mark.parametrize(
    "one",
    [
        rule(status="Disabled"),
        rule(where="teams/"),
        rule(where="steps/"),
        rule(where="team/runs/"),
        rule(where="team/steps/train_dit_1/0123456789abcdef/checkpoints/"),
        rule(where="team/steps/train_dit_1/0123456789abcdef/ledger/00000001.json/x"),
        rule(where="<Tag><Key>kind</Key><Value>log</Value></Tag>"),
        rule(
            where="<And><Prefix></Prefix><Tag><Key>kind</Key><Value>log</Value></Tag>"
            "<Tag><Key>old</Key><Value>1</Value></Tag></And>"
        ),
        rule(where="<ObjectSizeGreaterThan>5000000</ObjectSizeGreaterThan>"),
        rule(
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
        ),
        rule(
            "<NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays>"
            "</NoncurrentVersionExpiration>"
        ),
    ],
)
def test_a_rule_that_leaves_that_alone_is_fine(examine: Examine, one: str) -> None:
    found = examine(one)
    assert (found.state, found.hint) == ("ok", "")


def test_a_store_that_is_the_whole_bucket(examine: Examine) -> None:
    assert examine(rule(where="steps/"), folder="").state == "poor"
    assert examine(rule(where="team/"), folder="").state == "ok"
    assert examine(folder="").found == "no rule deletes steps/*/*/ledger/*"


def test_who_may_not_read_the_rules_is_told_that_nobody_knows(
    examine: Examine, minio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine(rule())
    arn = "arn:aws:s3:::"
    allowed = ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    statement = {
        "Effect": "Allow",
        "Action": allowed,
        "Resource": [f"{arn}{minio.bucket}", f"{arn}{minio.bucket}/*"],
    }
    minio.add_user("no-rules", {"Version": "2012-10-17", "Statement": [statement]})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "no-rules")
    used, found = examine_step_store(f"s3://{minio.bucket}/team")
    assert (used.state, found.state) == ("ok", "skipped")
    assert "not known whether rules delete steps/*/*/ledger/*" in found.found
    assert "AccessDenied" in found.found


def test_a_directory_has_no_rules(tmp_path: Any) -> None:
    assert [finding.check for finding in examine_step_store(tmp_path.as_uri())] == ["object store"]
