"""An API server that answers what a test wants: its faults, rather than what a real one does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kubernetes.client import Configuration

from evalrun_cli.cluster import Cluster

Body = dict[str, Any] | bytes | Iterator[bytes]


@dataclass(frozen=True)
class Asked:
    """A request. body: None where it had none."""

    method: str
    path: str
    query: dict[str, str]
    body: Any = None

    @property
    def watches(self) -> bool:
        return "watch" in self.query


@dataclass(frozen=True)
class Answer:
    """A response: a document, bytes as they are, or pieces of them."""

    body: Body
    code: int = 200


def unfit(code: int, message: str = "not now") -> Answer:
    """A refusal, as an API server words it."""
    return Answer({"kind": "Status", "code": code, "message": message}, code)


def listed(*items: dict[str, Any], **metadata: str) -> Answer:
    return Answer({"items": list(items), "metadata": {"resourceVersion": "1", **metadata}})


def event(kind: str, run: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": run}).encode() + b"\n"


class Api:
    """Set `answer`; look at `asked`."""

    def __init__(self) -> None:
        self.answer: Callable[[Asked], Answer] = lambda _: unfit(404)
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size)) if size else None
                asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), body)
                outer.asked.append(asked)
                answer = outer.answer(asked)
                self.send_response(answer.code)
                self.end_headers()
                content = answer.body
                if isinstance(content, dict):
                    content = json.dumps(content).encode()
                for piece in [content] if isinstance(content, bytes) else content:
                    self.wfile.write(piece)
                    self.wfile.flush()

            def do_PATCH(self) -> None:
                self.do_GET()

            def do_DELETE(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the test's output is not the place."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def kubeconfig(self, namespace: str) -> str:
        context = {"cluster": "c", "namespace": namespace}
        return json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": self.address}}],
                "contexts": [{"name": "prod", "context": context}],
                "current-context": "prod",
            }
        )

    @property
    def cluster(self) -> Cluster:
        """A client of it, without a kubeconfig."""
        return Cluster(Configuration(host=self.address), "prod", "team")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
