"""Who may speak to an S3 server, and how: TLS, addressing, credentials, policies."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kinetoscope.core.errors import ConfigError, StorageError
from kinetoscope.storage.open import open_store

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def secure(new_minio: Callable[..., Any]) -> Any:
    """Return a server with a certificate of a private CA that knows buckets as host names."""
    server = new_minio(MINIO_DOMAIN="s3.test")
    _certify(server.certs, server.folder / "ca.crt")
    server.start()
    return server


@pytest.fixture
def named_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let s3.test and all below it be this machine, as a wildcard in DNS would."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        ours = isinstance(host, str) and (host == "s3.test" or host.endswith(".s3.test"))
        return resolve("127.0.0.1" if ours else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.usefixtures("named_hosts")
@pytest.mark.parametrize("addressing", ["path", "virtual", "auto"])
def test_private_ca_and_both_addressings(
    secure: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, addressing: str
) -> None:
    for name, value in secure.environment(f"https://s3.test:{secure.port}").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINO_S3_CA_FILE", str(secure.folder / "ca.crt"))
    monkeypatch.setenv("KINO_S3_ADDRESSING", addressing)
    store = open_store(f"s3://{secure.bucket}/{uuid4().hex}")
    data = hashlib.shake_128(b"tls").digest(17 * MIB)
    (tmp_path / "file").write_bytes(data)
    store.put_file("a key/\u00e4", tmp_path / "file")
    store.get_file("a key/\u00e4", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    assert store.put_bytes_if_absent("x", b"1")
    assert [stat.key for stat in store.list()] == ["a key/\u00e4", "x"]
    store.delete_prefix("a key")
    hosts = set(secure_hosts(store))
    assert hosts == {f"{secure.bucket}.s3.test" if addressing == "virtual" else "s3.test"}


def secure_hosts(store: Any) -> list[str]:
    """Return the host names that the store's pool has spoken to."""
    pools = store._connection.client._http.pools
    return [key.key_host for key in pools.keys()]  # noqa: SIM118 - not iterable otherwise


@pytest.mark.usefixtures("named_hosts")
def test_a_certificate_that_does_not_fit_is_refused_at_once(
    secure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in secure.environment(f"https://s3.test:{secure.port}").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match="CERTIFICATE_VERIFY_FAILED") as told:
        open_store(f"s3://{secure.bucket}").stat("x")
    assert "KINO_S3_CA_FILE" in (told.value.hint or "")
    assert "tried again" not in str(told.value)
    monkeypatch.setenv("KINO_S3_ENDPOINT", f"http://s3.test:{secure.port}")
    with pytest.raises(StorageError, match="HTTP status 400") as told:
        open_store(f"s3://{secure.bucket}").get_bytes("x")
    assert "https" in (told.value.hint or "")


def test_credentials_from_files_are_read_again_when_they_change(
    minio: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINO_S3_ENDPOINT", minio.endpoint)
    monkeypatch.setenv("KINO_S3_CREDENTIALS_PATH", str(tmp_path))
    store = open_store(f"s3://{minio.bucket}/{uuid4().hex}")
    with pytest.raises(ConfigError, match="no access key and secret key"):
        store.stat("x")
    (tmp_path / "access_key").write_text(minio.access_key)
    (tmp_path / "secret_key").write_text("an-old-one\n")
    with pytest.raises(StorageError, match="SignatureDoesNotMatch") as told:
        store.stat("x")
    assert "an-old-one" not in f"{told.value!r} {told.value.hint}"
    (tmp_path / "secret_key").write_text(f"{minio.secret_key}\n")
    assert store.stat("x") is None
    (tmp_path / "session_token").write_text("no-such-token")
    with pytest.raises(StorageError) as told:
        store.get_bytes("x")
    assert "no-such-token" not in f"{told.value!r} {told.value.hint}"


def _certify(certs: Path, ca_path: Path) -> None:
    """Write a CA, and what a server needs that it has certified for *.s3.test."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private CA")])
    now = datetime.datetime.now(datetime.UTC)

    def build(name: x509.Name, public_key: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = (
        build(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [
        x509.DNSName("s3.test"),
        x509.DNSName("*.s3.test"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    certificate = (
        build(x509.Name([]), key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    ca_path.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (certs / "public.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (certs / "private.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def test_the_least_privileges_that_the_docs_name_are_enough(
    minio: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "storage.md").read_text()
    policy = text.partition("```json\n")[2].partition("```")[0].replace("BUCKET", minio.bucket)
    minio.add_user("least", json.loads(policy.replace("PREFIX", "team")))
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    open_store(f"s3://{minio.bucket}/other").put_bytes("x", b"")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "least")
    ours = open_store(f"s3://{minio.bucket}/team/{uuid4().hex}")
    (tmp_path / "file").write_bytes(b"x" * 17 * MIB)
    ours.put_file("a/file", tmp_path / "file")
    ours.get_file("a/file", tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size == 17 * MIB
    assert ours.put_bytes_if_absent("lease", b"x")
    assert ours.stat("nothing") is None
    assert [stat.key for stat in ours.list()] == ["a/file", "lease"]
    ours.delete("lease")
    ours.delete_prefix("a")
    with pytest.raises(StorageError, match="AccessDenied") as told:
        open_store(f"s3://{minio.bucket}/other").get_bytes("x")
    assert "permission" in (told.value.hint or "")
    with pytest.raises(StorageError, match="AccessDenied"):
        open_store(f"s3://{minio.bucket}/other").list()
