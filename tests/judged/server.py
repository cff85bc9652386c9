"""A judge that sells verdicts, fails as it is told, and keeps its books."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "key-of-the-judge-that-must-not-leak"


class Judge:
    """A local server that speaks the OpenAI API.

    Its n-th verdict on one request is another than its first, so that buying twice shows in scores.

    failing: share of requests that fail. refusing: status with which all are refused.
    quotes_key: whether a refusal says which key was refused.
    at: called with the number of each request, before it is answered; where it returns False, the
    connection is closed and nothing is sold.
    """

    def __init__(self, failing: float = 0.0, seed: int = 0, host: str = "127.0.0.1") -> None:
        self.host = host
        self.failing = failing
        self.refusing: int | None = None
        self.quotes_key = False
        self.at: Callable[[int], bool] = lambda number: True
        self.sold: Counter[str] = Counter()
        self.failed = 0
        self.first_heard: datetime | None = None
        self.keys: set[str] = set()
        self.models: set[str] = set()
        self.paths: set[str] = set()
        self.pause = threading.Event()
        self.pause.set()
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._arrived = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def hear(self, at: Callable[[int], bool]) -> None:
        """Count arrivals anew, and tell of each."""
        self._arrived, self.at = 0, at

    @property
    def sales(self) -> int:
        return self.sold.total()

    @contextmanager
    def open(self) -> Iterator[Judge]:
        server = _Server((self.host, self.port), _handler(self))
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def fate(self) -> str | None:
        """How this request fails, if it does."""
        with self._lock:
            self._arrived += 1
            self.first_heard = self.first_heard or datetime.now(UTC)
            number = self._arrived
            unlucky = self._random.random() < self.failing
            kind = self._random.choice(["500", "429", "reset", "cut", "empty"])
        if not self.at(number):
            return "reset"
        self.pause.wait(30)
        if unlucky:
            self.failed += 1
        return kind if unlucky else None

    def sell(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = json.dumps(request, sort_keys=True)
        with self._lock:
            draw = self.sold[asked]
            self.sold[asked] += 1
        words = hashlib.sha256(f"{asked} {draw}".encode()).digest()
        message = {"role": "assistant", "content": "yes" if words[0] % 2 else "no"}
        return {
            "id": words.hex(),
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed are what the tests are about."""


def _handler(judge: Judge) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            judge.keys.add(self.headers["Authorization"] or "")
            judge.models.add(request["model"])
            judge.paths.add(self.path)
            fate = judge.fate()
            if judge.refusing is not None:
                key = self.headers["Authorization"] if judge.quotes_key else ""
                self.answer(judge.refusing, {"error": {"message": f"no entry {key}".strip()}})
            elif fate in ("500", "429"):
                self.answer(int(fate), {"error": {"message": "overloaded"}}, "0")
            elif fate == "empty":
                self.answer(200, {"choices": []})
            elif fate == "reset":
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self.close_connection = True
                self.connection.close()
            elif fate == "cut":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choices": [')
                self.close_connection = True
            else:
                self.answer(200, judge.sell(request))

        def answer(self, status: int, body: Any, retry_after: str | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if retry_after is not None:
                self.send_header("Retry-After", retry_after)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output readable."""

    return Handler
