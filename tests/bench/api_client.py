"""The API server for programs of the benchmarks: plain documents over HTTP, and watches.

Written for thousands of requests a second from one process, which kubectl is not.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import aiohttp

Doc = dict[str, Any]

PAGE = 500
RETRIED = frozenset({409, 429, 500, 502, 503, 504})
"""Answers after which a write of ours is sent again: all of them are safe to repeat."""
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 2.0


class ApiAnswerError(Exception):
    """The API server refused: its code and its words."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text[:500]}")
        self.code = code


class WatchEvent(NamedTuple):
    """type: ADDED, MODIFIED or DELETED; LISTED for what was there when the watch began (anew)."""

    type: str
    object: Doc


class ApiClient:
    """Requests with the rights of a kubeconfig (JSON, with all certificates within).

    connections: at the same time, watches not counted. sent: how many requests went out.
    """

    def __init__(self, kubeconfig: Path, connections: int = 16) -> None:
        self.server, self._ssl, self._headers = _credentials(json.loads(kubeconfig.read_text()))
        self._connections = connections
        self.sent = 0

    async def __aenter__(self) -> ApiClient:
        self._session = self._open(self._connections)
        self._watches = self._open(0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()
        await self._watches.close()

    def _open(self, connections: int) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=connections, ssl=self._ssl or True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        headers = {"Accept": "application/json", "User-Agent": "bench", **self._headers}
        return aiohttp.ClientSession(
            self.server, connector=connector, timeout=timeout, headers=headers, trust_env=False
        )

    async def once(
        self,
        method: str,
        path: str,
        body: Doc | None = None,
        query: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> Doc:
        """One request. Raises ApiAnswerError, aiohttp.ClientError."""
        self.sent += 1
        data = None if body is None else json.dumps(body, separators=(",", ":"))
        headers = {} if body is None else {"Content-Type": kind}
        async with self._session.request(
            method, path, data=data, params=query, headers=headers
        ) as answer:
            raw = await answer.read()
            if answer.status >= 400:
                raise ApiAnswerError(answer.status, raw.decode(errors="replace"))
        return dict(json.loads(raw))

    async def request(
        self,
        method: str,
        path: str,
        body: Doc | None = None,
        query: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> Doc:
        """One request, sent until it is answered. Raises ApiAnswerError for good refusals."""
        pause = PAUSE_SECONDS
        while True:
            try:
                return await self.once(method, path, body, query, kind)
            except ApiAnswerError as error:
                if error.code not in RETRIED or (error.code == 409 and method == "POST"):
                    raise
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def merge(self, path: str, body: Doc) -> Doc:
        """A merge patch."""
        return await self.request("PATCH", path, body, kind="application/merge-patch+json")

    async def list(self, path: str, query: Mapping[str, str]) -> tuple[list[Doc], str]:
        """All objects, and the version of the list."""
        found: list[Doc] = []
        token = ""
        while True:
            page = await self.request(
                "GET", path, query={**query, "limit": str(PAGE), "continue": token}
            )
            found += page["items"]
            token = page["metadata"].get("continue") or ""
            if not token:
                return found, page["metadata"]["resourceVersion"]

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
        """List, then what changes, for ever: it is taken up again wherever it is cut."""
        version = ""
        while True:
            if not version:
                listed, version = await self.list(path, query)
                for document in listed:
                    yield WatchEvent("LISTED", document)
            try:
                async for event in self._watch_once(path, query, version):
                    if event.type == "ERROR":
                        if event.object.get("code") == 410:
                            version = ""  # too long ago to go on from there
                        break
                    version = event.object["metadata"]["resourceVersion"]
                    if event.type != "BOOKMARK":
                        yield event
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(PAUSE_SECONDS)

    async def _watch_once(
        self, path: str, query: Mapping[str, str], version: str
    ) -> AsyncIterator[WatchEvent]:
        wanted = {
            **query,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
        }
        async with self._watches.get(path, params=wanted) as answer:
            if answer.status != 200:
                yield WatchEvent("ERROR", {"code": answer.status})
                return
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield WatchEvent(event["type"], event["object"])


def _credentials(config: Doc) -> tuple[str, ssl.SSLContext | None, dict[str, str]]:
    """Address, TLS and headers that a kubeconfig of one cluster and one user says."""
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    if cluster["server"].startswith("http://"):
        return cluster["server"], None, headers
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    if "client-key-data" in user:
        # OpenSSL reads a client's certificate from a file alone.
        with tempfile.NamedTemporaryFile() as file:
            for name in ("client-key-data", "client-certificate-data"):
                file.write(base64.b64decode(user[name]))
            file.flush()
            context.load_cert_chain(file.name)
    return cluster["server"], context, headers
