"""Requests to one bucket: signed, retried, and their failures told."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from minio import Minio

from kinetoscope.core.errors import ConfigError
from kinetoscope.storage.s3.credentials import CredentialsSource
from kinetoscope.storage.s3.errors import TELLING_ERRORS, RequestError, explain, is_transient
from kinetoscope.storage.s3.http_pool import http_pool
from kinetoscope.storage.s3.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from threading import Event

    from urllib3.response import BaseHTTPResponse

    from kinetoscope.storage.s3.settings import S3Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """A request, without what signs it.

    Attributes:
        method: of HTTP.
        key: the object; None for the bucket.
        body: what is sent.
        headers: beside those that signing adds.
        query: of the URL, not quoted.
    """

    method: str
    key: str | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


class S3Connection:
    """One bucket of one server; safe to share by threads, and usable after a fork.

    Args:
        bucket: its name.
        settings: how to reach the server.
    """

    def __init__(self, bucket: str, settings: S3Settings) -> None:
        self.bucket = bucket
        self.settings = settings
        self.honours_conditions = False
        """Whether the server has shown that it honours ``If-None-Match``."""
        self.lock = threading.RLock()
        self._retry = RetryPolicy(settings.retry_seconds)
        self._credentials = CredentialsSource(settings.credentials_path)
        self._bucket_exists = False
        # By process: a child must not share its parent's sockets, nor close them.
        self._clients: dict[int, Minio] = {}
        os.register_at_fork(after_in_child=self._after_fork)

    def __repr__(self) -> str:
        return f"S3Connection({self.bucket!r} at {self.settings.endpoint})"

    def call(
        self,
        operation: Callable[[], T],
        *,
        doing: str,
        key: str | None = None,
        stop: Event | None = None,
        once: bool = False,
    ) -> T:
        """Run an operation, again where its failure may pass.

        Args:
            operation: safe to repeat; uses ``send``.
            doing: what it does, for messages.
            key: the object, for messages.
            stop: once set, nothing is tried again.
            once: do not try again.

        Raises:
            RequestError: with the server's code.
        """
        policy = RetryPolicy(0.0) if once else self._retry
        try:
            return policy.call(operation, is_transient, stop=stop)
        except TELLING_ERRORS as error:
            where = f"s3://{self.bucket}/{key or ''} at {self.settings.endpoint}"
            # The cause is in the message; its own text could hold what a proxy repeats.
            raise explain(error, doing=doing, where=where, retried_seconds=policy.seconds) from None

    def request(
        self, message: Message, *, doing: str, stop: Event | None = None
    ) -> BaseHTTPResponse:
        """Send a message that is safe to repeat and return its whole answer; errors as in call."""
        return self.call(lambda: self.send(message), doing=doing, key=message.key, stop=stop)

    def send(self, message: Message, *, stream: bool = False) -> BaseHTTPResponse:
        """Send a message once; errors are those of ``TELLING_ERRORS``.

        ``_execute`` is the part of minio-py that signs and understands errors; its public methods
        know no conditional writes, no parallel downloads and no retries of ours.

        Args:
            message: what to send.
            stream: leave the body of the answer unread.
        """
        response = self.client._execute(
            message.method,
            self.bucket,
            message.key,
            body=message.body,
            # It writes into these.
            headers=dict(message.headers),
            query_params=dict(message.query),
            preload_content=not stream,
        )
        self._bucket_exists = True
        return response

    def head(self, key: str) -> Mapping[str, str] | None:
        """Return the headers of an object, or None when there is none.

        Raises:
            RequestError: there is no such bucket, among others.
        """
        try:
            return self.request(Message("HEAD", key), doing="look up").headers
        except RequestError as error:
            missing = error.status == HTTPStatus.NOT_FOUND
            if not (missing and self._bucket_exists):
                # The answer to HEAD has no body: what ails is told by another request.
                query = {"list-type": "2", "max-keys": "1", "prefix": key}
                probe = Message("GET", query=query)
                self.call(lambda: self.send(probe), doing="look up", key=key)
            if not missing:
                raise
        return None

    @property
    def client(self) -> Minio:
        """This process's client."""
        client = self._clients.get(os.getpid())
        if client is None:
            with self.lock:
                client = self._clients.setdefault(os.getpid(), self._new_client())
        return client

    def _new_client(self) -> Minio:
        settings = self.settings
        parts = urlsplit(settings.endpoint)
        try:
            client = Minio(
                parts.netloc,
                credentials=self._credentials,
                secure=parts.scheme == "https",
                region=settings.region,
                http_client=http_pool(settings.ca_file),
            )
        except ValueError as error:
            raise ConfigError(
                f"KINO_S3_ENDPOINT={settings.endpoint!r} with KINO_S3_REGION={settings.region!r} "
                f"is refused: {error}",
                hint="write http(s)://HOST[:PORT] and e.g. eu-central-1",
            ) from None
        if settings.addressing == "path":
            client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        elif settings.addressing == "virtual":
            client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        return client

    def _after_fork(self) -> None:
        # Another thread may have held it.
        self.lock = threading.RLock()


@lru_cache(maxsize=64)
def connect(bucket: str, settings: S3Settings) -> S3Connection:
    """Return the connection to a bucket; equal arguments share one."""
    return S3Connection(bucket, settings)
