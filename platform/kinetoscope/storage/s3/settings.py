"""Where an S3 store is and how it is spoken to: checked, and free of credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, cast
from urllib.parse import unquote, urlsplit

from kinetoscope.core.errors import ConfigError, StorageError
from kinetoscope.core.settings import S3Variables, s3_variables
from kinetoscope.storage.keys import check_key

Addressing = Literal["auto", "path", "virtual"]

# docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, and as lax as old ones.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_ADDRESSING = ("auto", "path", "virtual")
_DEFAULT_ENDPOINT = "https://s3.amazonaws.com"
_DEFAULT_REGION = "us-east-1"
_DEFAULT_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket, and the key prefix in it that is the root of a store (empty: the bucket)."""

    bucket: str
    prefix: str = ""

    @classmethod
    def of(cls, uri: str) -> Self:
        """Read ``s3://BUCKET[/PREFIX]``; what is refused is not repeated: it may hold secrets."""
        bucket, _, path = uri.removeprefix("s3://").partition("/")
        if "@" in uri or ":" in bucket:
            raise ConfigError(
                "the URI of an S3 store may name neither user, password nor port",
                hint="write s3://BUCKET/PREFIX; credentials belong into files or the environment, "
                "the server's address into KINO_S3_ENDPOINT (docs/storage.md)",
            )
        if not _BUCKET.fullmatch(bucket) or "?" in path or "#" in path:
            raise ConfigError(
                "the URI of an S3 store must read s3://BUCKET or s3://BUCKET/PREFIX",
                hint="a bucket's name has 3 to 63 letters, digits, dots and hyphens; "
                "quote '?', '#' and '@' as %3F, %23 and %40",
            )
        prefix = unquote(path).removesuffix("/")
        try:
            return cls(bucket, check_key(prefix) if prefix else "")
        except StorageError:
            raise ConfigError(
                f"the URI of an S3 store has the prefix {prefix!r}: parts that are empty, '.' or "
                "'..', backslashes and control characters are not allowed in one",
                hint="write s3://BUCKET/PREFIX, e.g. s3://team/videos/cats",
            ) from None


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach a server; hashable, so that equal settings share their connections.

    Args:
        endpoint: ``http(s)://HOST[:PORT]``.
        region: that requests are signed for.
        addressing: bucket in the path, in the host name, or as the endpoint is known to want it.
        ca_file: PEM file; only certificates from it are trusted then.
        credentials_path: folder of ``access_key``, ``secret_key`` and perhaps ``session_token``,
            also without ``_``; without it the environment has them.
        retry_seconds: how long failures that may pass are tried again.
    """

    endpoint: str = _DEFAULT_ENDPOINT
    region: str = _DEFAULT_REGION
    addressing: Addressing = "auto"
    ca_file: Path | None = None
    credentials_path: Path | None = None
    retry_seconds: float = _DEFAULT_RETRY_SECONDS

    @classmethod
    def from_environment(cls) -> Self:
        """Return what the environment says; raises ``ConfigError``."""
        said = s3_variables()
        return cls(
            endpoint=_endpoint(said.endpoint),
            region=said.region or _DEFAULT_REGION,
            addressing=_addressing(said.addressing),
            ca_file=_ca_file(said.ca_file),
            credentials_path=Path(said.credentials_path) if said.credentials_path else None,
            retry_seconds=_retry_seconds(said),
        )


def _endpoint(text: str) -> str:
    if not text:
        return _DEFAULT_ENDPOINT
    hint = "write http://HOST:PORT or https://HOST:PORT"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigError("KINO_S3_ENDPOINT is not a URL", hint=hint) from None
    if "@" in parts.netloc:
        raise ConfigError(
            "KINO_S3_ENDPOINT holds a user or a password",
            hint="credentials belong into files or the environment (docs/storage.md)",
        )
    unwanted = parts.path not in ("", "/") or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or unwanted:
        raise ConfigError(f"KINO_S3_ENDPOINT={text!r} is not http(s)://HOST[:PORT]", hint=hint)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def _addressing(text: str) -> Addressing:
    if text and text not in _ADDRESSING:
        raise ConfigError(
            f"KINO_S3_ADDRESSING={text!r} is unknown", hint=f"use one of {', '.join(_ADDRESSING)}"
        )
    return cast("Addressing", text or "auto")


def _ca_file(text: str) -> Path | None:
    if not text:
        return None
    path = Path(text)
    if not path.is_file():
        raise ConfigError(
            f"KINO_S3_CA_FILE={text!r} is no file", hint="name a PEM file of CA certificates"
        )
    return path


def _retry_seconds(said: S3Variables) -> float:
    text = said.retry_seconds
    if not text:
        return _DEFAULT_RETRY_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(
            f"KINO_S3_RETRY_SECONDS={text!r} is no number of seconds", hint="use e.g. 60; 0 is off"
        )
    return seconds
