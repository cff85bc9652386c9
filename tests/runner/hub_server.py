"""A hub on loopback: a folder of repositories behind the few endpoints that the libraries ask.

It counts what it serves, can cut a connection half-way, and can be switched off.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

KINDS = {"models": "", "datasets": "datasets/"}


@dataclass
class Repository:
    """Commits of a repository, and which of them each branch stands for."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit and move the branch to it."""
        hasher = hashlib.sha1()
        for name, data in sorted(files.items()):
            hasher.update(name.encode() + data)
        sha = hasher.hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        return sha


class Hub:
    """The server. cut: how many answers to break off half-way; served: bytes by file name."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.served: Counter[str] = Counter()
        self.requests = 0
        self.cut = 0
        self.on = True
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_POST = do_GET  # noqa: N815  # the library asks for these names

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def repository(self, kind: str, name: str) -> Repository:
        """A repository, made if there is none. kind: models or datasets."""
        return self.repositories.setdefault((kind, name), Repository())

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length)
        self.requests += 1
        if not self.on:
            request.close_connection = True
            return _send(request, 503, b"switched off")
        path = unquote(urlsplit(request.path).path)
        parts = path.strip("/").split("/")
        if parts[0] == "api" and parts[1] in KINDS:
            return self._api(request, parts[1], "/".join(parts[2:4]), parts[4:], body)
        kind = "datasets" if parts[0] == "datasets" else "models"
        parts = parts[1:] if kind == "datasets" else parts
        if len(parts) > 4 and parts[2] == "resolve":
            return self._file(request, kind, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return _send(request, 404, b"no such address")

    def _api(self, request: Any, kind: str, name: str, rest: list[str], body: bytes) -> None:
        found = self.repositories.get((kind, name))
        if found is None:
            return _error(request, "RepoNotFound")
        revision = rest[1] if len(rest) > 1 else "main"
        sha = found.branches.get(revision, revision)
        files = found.commits.get(sha)
        if files is None:
            return _error(request, "RevisionNotFound")
        what = rest[0] if rest else "revision"
        if what == "revision":
            siblings = [{"rfilename": path} for path in files]
            info = {"id": name, "sha": sha, "siblings": siblings, "private": False}
            return _json(request, {**info, "tags": [], "downloads": 0, "likes": 0})
        if what == "tree":
            folder = "/".join(rest[2:])
            return _json(request, _tree(files, folder, "recursive=true" in request.path.lower()))
        if what == "paths-info":
            asked = json.loads(body)["paths"]
            tree = _tree(files, "", recursive=True)
            return _json(request, [entry for entry in tree if entry["path"] in asked])
        return _send(request, 404, b"no such address")

    def _file(self, request: Any, kind: str, name: str, revision: str, path: str) -> None:
        found = self.repositories.get((kind, name))
        if found is None:
            return _error(request, "RepoNotFound")
        sha = found.branches.get(revision, revision)
        if sha not in found.commits:
            return _error(request, "RevisionNotFound")
        data = found.commits[sha].get(path)
        if data is None:
            return _error(request, "EntryNotFound")
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": sha,
            "Accept-Ranges": "bytes",
        }
        start = 0
        if wanted := request.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        if request.command == "HEAD":
            return _send(request, 200, rest, headers)
        if self.cut and len(rest) > 20_000_000:
            self.cut -= 1
            half = rest[: len(rest) // 2]
            self.served[path] += len(half)
            _send(request, 206 if start else 200, half, headers, length=len(rest))
            request.close_connection = True
            return None
        self.served[path] += len(rest)
        return _send(request, 206 if start else 200, rest, headers)


def _tree(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    prefix = f"{folder}/" if folder else ""
    for path, data in files.items():
        if not path.startswith(prefix):
            continue
        head, _, tail = path[len(prefix) :].partition("/")
        if tail:
            oid = hashlib.sha1(head.encode()).hexdigest()
            entry = {"type": "directory", "path": f"{prefix}{head}", "size": 0, "oid": oid}
            entries.setdefault(f"{prefix}{head}", entry)
        if recursive or not tail:
            oid = hashlib.sha1(data).hexdigest()
            entries[path] = {"type": "file", "path": path, "size": len(data), "oid": oid}
    return list(entries.values())


def _send(
    request: Any,
    status: int,
    data: bytes,
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> None:
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(data) if length is None else length))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)


def _json(request: Any, value: Any) -> None:
    _send(request, 200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _error(request: Any, code: str) -> None:
    _send(request, 404, b"{}", {"X-Error-Code": code, "X-Error-Message": code})


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder, for a commit."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
