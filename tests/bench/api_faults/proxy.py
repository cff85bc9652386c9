"""The proxy itself. A request that it has taken is carried out even if its sender is gone by then,
as one that the API server has taken is.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from bench.api_faults.draws import Draws, Fault, Kind, Refusal
from bench.api_faults.watching import CutError, disturbed, gone_line

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}
PATIENCE_SECONDS = 15.0
"""At the end, for what is still carried out; longer than any delay."""
REMEMBER = 0.3
"""Share of the lists that are remembered to be told again later."""


class Interloper(Protocol):
    """Told of each write but those of the Lease; may end the process that sent it.

    at: of the event loop, when the request came.
    """

    def before(self, at: float) -> bool:
        """A write is about to be carried out; whether its sender was just killed instead."""
        ...

    def after(self, at: float, code: int) -> bool:
        """It was, and is about to be answered; whether its sender was just killed."""
        ...


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    code: int
    headers: Mapping[str, str]
    body: bytes


class FaultProxy:
    """Listens on loopback, without TLS. target: address of the API server."""

    def __init__(
        self, target: str, context: ssl.SSLContext | None, draws: Draws, interloper: Interloper
    ) -> None:
        self.draws = draws
        self._target = target
        self._context = context
        self._interloper = interloper
        self._lists: dict[str, Answer] = {}
        self._tasks: set[asyncio.Task[Answer | None]] = set()

    async def start(self, port: int) -> None:
        """Listen."""
        connector = aiohttp.TCPConnector(limit=0, ssl=self._context or True)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
            trust_env=False,
        )
        server = web.Server(self._serve, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def stop(self) -> None:
        """Stop listening, and cut what is under way."""
        await self._runner.cleanup()
        if self._tasks:  # what was taken is carried out, unless the API server does not answer
            _, late = await asyncio.wait(self._tasks, timeout=PATIENCE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._session.close()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        kind = kind_of(request.method, request.path, request.query)
        fault = self.draws.request(kind)
        if fault == "stale_list" and request.path_qs not in self._lists:
            fault = "none"
        if fault != "none":
            self.draws.count(kind, fault)
        if kind == "watch":
            return await self._watch(request, fault)
        body = await request.read()
        if fault == "stale_list":
            return _response(self._lists[request.path_qs])
        work = asyncio.create_task(self._carry_out(request, kind, fault, body))
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)
        answer = await asyncio.shield(work)
        if answer is None:
            return _reset(request)
        if kind == "list" and self._may_be_told_again(request):
            self._lists[request.path_qs] = answer
        return _response(answer)

    async def _carry_out(
        self, request: web.BaseRequest, kind: Kind, fault: Fault, body: bytes
    ) -> Answer | None:
        """Do with a request what its fault says; None when its sender shall not be told."""
        at = asyncio.get_running_loop().time()
        if fault == "delay":
            await asyncio.sleep(self.draws.delay(kind))
        if fault == "drop":
            return None
        if fault in ("conflict", "too_many", "unavailable"):
            return _refused(self.draws.refusal(fault, request.method))
        if kind == "write" and self._interloper.before(at):
            return None
        answer = await self._forward(request, body)
        if fault == "duplicate":
            second = await self._forward(request, body)
            answer = (answer, second)[self.draws.pick(2)]
        if kind == "write" and answer is not None and self._interloper.after(at, answer.code):
            return None
        return None if fault == "lost_reply" else answer

    async def _forward(self, request: web.BaseRequest, body: bytes) -> Answer | None:
        try:
            async with self._session.request(
                request.method, self._url(request), headers=_headers(request), data=body or None
            ) as response:
                return Answer(response.status, _kept(response.headers), await response.read())
        except aiohttp.ClientError:
            return None

    def _may_be_told_again(self, request: web.BaseRequest) -> bool:
        if request.query.get("continue"):
            return False  # it goes on from another moment
        return request.path_qs not in self._lists or self.draws.chance(REMEMBER)

    async def _watch(self, request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
        if fault == "delay":
            await asyncio.sleep(self.draws.delay("watch"))
        if fault == "drop":
            return _reset(request)
        if fault in ("too_many", "unavailable"):
            return _response(_refused(self.draws.refusal(fault, "GET")))
        if fault == "gone" and self.draws.chance(0.5):
            return _response(_refused(self.draws.refusal(fault, "GET")))
        response = web.StreamResponse()
        async with self._session.get(self._url(request), headers=_headers(request)) as upstream:
            response.set_status(upstream.status)
            response.headers.update(_kept(upstream.headers))
            await response.prepare(request)
            if fault == "gone":
                await response.write(gone_line())
                return response
            try:
                async for line in disturbed(upstream.content.iter_any(), self.draws):
                    await response.write(line)
            except CutError:
                return _reset(request)
            except aiohttp.ClientError:  # the API server ended it
                return _reset(request)
        return response

    def _url(self, request: web.BaseRequest) -> str:
        return f"{self._target}{request.path_qs}"


def kind_of(method: str, path: str, query: Mapping[str, str]) -> Kind:
    """What sort of request it is."""
    parts = path.strip("/").split("/")
    if method == "GET" and query.get("watch") in ("1", "true"):
        return "watch"
    if "leases" in parts:
        return "lease"
    if method != "GET":
        return "write"
    named = parts[-1] not in ("evaluationruns", "jobs", "pods", "benchmarks", "configmaps")
    return "get" if named else "list"


def _headers(request: web.BaseRequest) -> dict[str, str]:
    return {name: text for name, text in request.headers.items() if name.lower() not in _HOP_BY_HOP}


def _kept(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict(
        (name, text) for name, text in headers.items() if name.lower() not in _HOP_BY_HOP
    )


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.code, headers=answer.headers, body=answer.body)


def _refused(refusal: Refusal) -> Answer:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": "a fault",
        "reason": refusal.reason,
        "code": refusal.code,
    }
    headers = {"Content-Type": "application/json"}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    return Answer(refusal.code, headers, json.dumps(status).encode())


def _reset(request: web.BaseRequest) -> web.StreamResponse:
    """End the connection in the middle of what it was at."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)
