"""A proxy before a real S3 server that spoils what is asked and answered."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Exchange:
    """A request, and the answer that the real server gave."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 200
    body: bytes = b""
    answer_headers: list[tuple[str, str]] = field(default_factory=list)

    def is_(self, method: str, *words: str) -> bool:
        return self.method == method and all(word in self.path for word in words)


LOST = "the connection breaks before the answer"
HALF = "the connection breaks in the middle of the answer"

Fault = Callable[[Exchange], Any]


def nothing(_: Exchange) -> None:
    """Leave all as it is."""


def always(fault: Any) -> Fault:
    """Make a fault that strikes every time."""
    return lambda _: fault


class Proxy:
    """Passes requests on; ``before`` may answer for the server, ``after`` may spoil its answer.

    Both return a status and a body, ``LOST``, ``HALF``, or None to change nothing.
    """

    def __init__(self, port: int) -> None:
        self.before: Fault = nothing
        self.after: Fault = nothing
        self.seen: list[Exchange] = []
        self._port = port
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Handler(self, *args))
        self._server.block_on_close = False
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def handle(self, exchange: Exchange, body: bytes) -> Any:
        self.seen.append(exchange)
        fault = self.before(exchange)
        if fault is None:
            self._pass_on(exchange, body)
            fault = self.after(exchange)
        if isinstance(fault, tuple):
            exchange.status, exchange.body = fault
            exchange.answer_headers = [("Content-Type", "application/xml")]
        return fault

    def _pass_on(self, exchange: Exchange, body: bytes) -> None:
        server = http.client.HTTPConnection("127.0.0.1", self._port)
        server.request(exchange.method, exchange.path, body, exchange.headers)
        answer = server.getresponse()
        exchange.status, exchange.body = answer.status, answer.read()
        exchange.answer_headers = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding")
        ]
        server.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def count(self, method: str, *words: str) -> int:
        return sum(exchange.is_(method, *words) for exchange in self.seen)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Or an answer waits 40 ms for the acknowledgement of its headers.
    disable_nagle_algorithm = True

    def __init__(self, proxy: Proxy, *args: Any) -> None:
        self._proxy = proxy
        super().__init__(*args)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._exchange
        raise AttributeError(name)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _exchange(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        exchange = Exchange(self.command, self.path, dict(self.headers))
        fault = self._proxy.handle(exchange, body)
        if fault == LOST:
            self.close_connection = True
            return
        self.send_response(exchange.status)
        given = {name.lower() for name, _ in exchange.answer_headers}
        for name, value in exchange.answer_headers:
            self.send_header(name, value)
        if "content-length" not in given:
            self.send_header("Content-Length", str(len(exchange.body)))
        self.end_headers()
        half = len(exchange.body) // 2 if fault == HALF else len(exchange.body)
        self.wfile.write(exchange.body[:half])
        self.close_connection = self.close_connection or fault == HALF

    def log_message(self, *args: Any) -> None:
        pass


def once(fault: Fault) -> Fault:
    """Make a fault that strikes the first time only."""
    struck: list[Exchange] = []

    def strike(exchange: Exchange) -> Any:
        spoilt = None if struck else fault(exchange)
        if spoilt is not None:
            struck.append(exchange)
        return spoilt

    return strike


def error(status: int, code: str) -> tuple[int, bytes]:
    return status, f"<Error><Code>{code}</Code><Message>told</Message></Error>".encode()
