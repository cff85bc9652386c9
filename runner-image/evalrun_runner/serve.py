"""/progress, /metrics and /healthz of a runner, while it works."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from evalrun_runner.report import Report


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def serve(report: Report, listen: str, address_file: Path | None) -> None:
    """Serve in the background at HOST:PORT (port 0: any free one) until the process ends.

    The address that was bound is written to `address_file`.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds; a client that says nothing may not hold a thread

        def do_GET(self) -> None:
            if self.path == "/progress":
                self._answer(200, "application/json", report.progress().body())
            elif self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(report.registry))
            elif self.path == "/healthz":
                self._answer(200, "text/plain", b"ok\n")
            else:
                self._answer(404, "text/plain", b"not found: /progress, /metrics, /healthz\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged: they come every second."""

    host, _, port = listen.rpartition(":")
    server = _Server((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    if address_file is not None:
        bound_host, bound_port = server.server_address[:2]
        address_file.write_text(f"{bound_host!s}:{bound_port}")
