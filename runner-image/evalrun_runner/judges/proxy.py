"""The server that tasks take for their judge: a port of 127.0.0.1 in the process that scores.

It speaks as much of the OpenAI API (and of Azure's paths) as a judge needs, and hands every request
to the desk. It is reached with a token in the path, which every address that tasks are given has,
or as the key: other users of a machine may not spend a run's money.

A verdict can take minutes, and many tasks hang up after 30 or 60 seconds. So an answer that takes
long begins early, with blanks, which JSON allows before a document: no client's timer runs out.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import select
import socket
import threading
from concurrent.futures import CancelledError
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import urlsplit

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.judge import Verdict
from evalrun_runner.judges.desk import Closed, Failures, Ticket
from evalrun_runner.judges.request import as_stream

log = logging.getLogger(__name__)

BLANK_SECONDS = 5.0
MAX_BODY_BYTES = 256 << 20


class TakesRequests(Protocol):
    """What answers (`Desk`, `NoDesk`)."""

    failures: Failures

    def take(self, target: str, body: Any) -> Ticket:
        """A ticket for a request; raises `EvalrunError`."""

    def give_back(self, ticket: Ticket) -> None:
        """The task hung up before it was answered."""


class _HungUpError(Exception):
    """The task is gone."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class JudgeProxy:
    """Listens from construction on, and refuses as long as no desk is open.

    model: what a task is told that asks which models there are.
    """

    def __init__(self, model: str | None) -> None:
        self.token = f"evalrun-{secrets.token_hex(16)}"
        self.model = model
        self.desk: TakesRequests | None = None
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(proxy: JudgeProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 600  # seconds; an idle connection may not hold a thread for ever

        def do_GET(self) -> None:
            if not self._is_known():
                self._refuse(401, "unknown token")
            elif urlsplit(self.path).path.rstrip("/").endswith("/models"):
                models = [{"id": proxy.model, "object": "model"}] if proxy.model else []
                self._send(200, json.dumps({"object": "list", "data": models}).encode())
            else:
                self._refuse(404, "only /models can be read")

        def do_POST(self) -> None:
            raw = self._body()
            if not self._is_known():
                self._refuse(401, "unknown token")
                return
            if (desk := proxy.desk) is None:
                self._refuse(503, "nothing is judged in this step")
                return
            try:
                ticket = _ticket(desk, self.path, raw)
            except EvalrunError as error:
                self._refuse(503, str(error))
                return
            try:
                self._serve(ticket)
            except (_HungUpError, OSError):
                self.close_connection = True
                desk.give_back(ticket)

        def _serve(self, ticket: Ticket) -> None:
            begun = False
            while True:
                try:
                    verdict = ticket.verdict.result(timeout=BLANK_SECONDS)
                    break
                except TimeoutError:
                    self._be_there()
                    self._blank(ticket, first=not begun)
                    begun = True
                except (EvalrunError, Closed, CancelledError) as error:
                    self._fail(str(error) or "scoring ends", begun=begun)
                    return
            self._be_there()
            data = _rendered(ticket, verdict)
            if begun:
                self._chunk(data)
                self.wfile.write(b"0\r\n\r\n")
                self.wfile.flush()
            else:
                self._send(200, data, _content_type(ticket))

        def _blank(self, ticket: Ticket, *, first: bool) -> None:
            if first:
                self.send_response(200)
                self.send_header("Content-Type", _content_type(ticket))
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
            self._chunk(b": wait\n\n" if ticket.request.streamed else b" ")

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        def _fail(self, message: str, *, begun: bool) -> None:
            if begun:  # an answer that is cut short is an error to every client
                self.close_connection = True
            else:
                self._refuse(503, message)

        def _be_there(self) -> None:
            """Raise `_HungUpError` if the task has closed its end."""
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                raise _HungUpError

        def _is_known(self) -> bool:
            first = self.path.lstrip("/").partition("/")[0]
            given = (
                first,
                self.headers.get("Authorization", "").removeprefix("Bearer ").strip(),
                self.headers.get("api-key", ""),
            )
            token = proxy.token.encode()
            return any(hmac.compare_digest(one.encode(), token) for one in given)

        def _body(self) -> bytes | None:
            """None if its length is not told, or more than is read."""
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > MAX_BODY_BYTES:
                self.close_connection = True
                return None
            return self.rfile.read(int(length))

        def _refuse(self, status: int, message: str) -> None:
            error = {"message": message, "type": "evalrun", "code": status}
            self._send(status, json.dumps({"error": error}).encode())

        def _send(self, status: int, data: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("x-should-retry", "false")  # the openai client would, on 503
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged: their path holds the token."""

    return Handler


def _ticket(desk: TakesRequests, path: str, raw: bytes | None) -> Ticket:
    """A ticket for what a task posted. Raises `EvalrunError`, which the desk then knows of.

    Nothing may go wrong between a task and the desk unseen: the task would take it for no verdict.
    """
    try:
        body = json.loads(raw) if raw is not None else None
    except (ValueError, RecursionError):
        body = None
    try:
        return desk.take(path, body)
    except EvalrunError:
        raise
    except Exception as error:
        log.exception("a request to the judge could not be taken")
        what = f"a benchmark's request to the judge cannot be read ({type(error).__name__})"
        found = fail(reasons.JUDGE_REFUSED, "spec.benchmarks", what)
        desk.failures.add(found)
        raise found from error


def _content_type(ticket: Ticket) -> str:
    return "text/event-stream" if ticket.request.streamed else "application/json"


def _rendered(ticket: Ticket, verdict: Verdict) -> bytes:
    if ticket.request.streamed:
        return as_stream(ticket.request.call, verdict.response)
    return json.dumps(verdict.response).encode()
