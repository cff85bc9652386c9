"""A store that misbehaves: a proxy in front of a real S3 server that delays, refuses and resets.

Requests are forwarded with the caller's own Host header, which its signature covers.
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Fault = Literal["none", "delay", "error", "slow_down", "reset", "reset_after"]

SHARES: dict[Fault, float] = {
    "none": 0.6,
    "delay": 0.1,
    "error": 0.1,
    "slow_down": 0.1,
    "reset": 0.05,
    "reset_after": 0.05,
}
"""Of the requests while the store fails. reset_after: it was carried out, but nobody was told."""
MAX_DELAY_SECONDS = 3.0
_HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}


class FaultProxy:
    """Listens on loopback; `faulty` switches the faults on, `silent` refuses everything."""

    def __init__(self, target: str, seed: int) -> None:
        parts = urlsplit(target)
        self.target = (parts.hostname or "", parts.port or 80)
        self.faulty = False
        self.silent = False
        self.seen: Counter[Fault] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._active = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        """Address for clients."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def draw(self) -> Fault:
        """What happens to the next request."""
        with self._lock:
            fault: Fault = "none"
            if self.silent:
                fault = "slow_down"
            elif self.faulty:
                (fault,) = self._random.choices(list(SHARES), list(SHARES.values()))
            self.seen[fault] += 1
            return fault

    def delay(self) -> float:
        """Seconds that a late request waits."""
        with self._lock:
            return self._random.uniform(0.2, MAX_DELAY_SECONDS)

    def settle(self) -> None:
        """Wait until requests of a process that was killed are carried out or dropped."""
        deadline = time.monotonic() + 10
        while self._active and time.monotonic() < deadline:
            time.sleep(0.02)

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    def enter(self, step: int) -> None:
        """Count requests in hand."""
        with self._lock:
            self._active += step


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def _serve(self) -> None:
            proxy.enter(1)
            try:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._answer(proxy.draw(), body)
            except OSError:  # the client was killed
                self.close_connection = True
            finally:
                proxy.enter(-1)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve  # noqa: N815

        def _answer(self, fault: Fault, body: bytes) -> None:
            if fault == "delay":
                time.sleep(proxy.delay())
            if fault == "error":
                self._refuse(500, "InternalError")
            elif fault == "slow_down":
                self._refuse(503, "SlowDown")
            elif fault == "reset":
                self._reset()
            else:
                self._forward(body, tell=fault != "reset_after")

        def _forward(self, body: bytes, *, tell: bool) -> None:
            connection = http.client.HTTPConnection(*proxy.target, timeout=60)
            try:
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in _HOP_BY_HOP:
                        connection.putheader(name, value)
                connection.endheaders(body or None)
                response = connection.getresponse()
                data = response.read()
            finally:
                connection.close()
            if not tell:
                self._reset()
                return
            self.send_response_only(response.status, response.reason)
            for name, value in response.getheaders():
                if name.lower() not in _HOP_BY_HOP | {"content-length"}:
                    self.send_header(name, value)
            length = response.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _refuse(self, status: int, code: str) -> None:
            data = f"<Error><Code>{code}</Code><Message>a fault</Message></Error>".encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _reset(self) -> None:
            self.close_connection = True
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.wfile = _Nowhere()  # type: ignore[assignment]  # it has what is called

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the bench counts."""

    return Handler


class _Nowhere:
    """Takes what a handler flushes after its connection was reset."""

    closed = True

    def flush(self) -> None:
        """See `io`."""

    def close(self) -> None:
        """See `io`."""
