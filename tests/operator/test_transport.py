"""What reaches the API server, and what comes of its answers: seen from a server of our own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from unittest.mock import Mock

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from cluster.ports import free_ports
from evalrun_operator.api_errors import ApiError, Forbidden, LeadershipLost, Unavailable
from evalrun_operator.cluster import Cluster
from evalrun_operator.decisions import Doc
from evalrun_operator.resources import JOBS, LEASES, RUNS
from evalrun_operator.transport import Request, Transport

pytestmark = pytest.mark.decisions

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Act = Callable[["Scene"], Awaitable[None]]
Write = Callable[[Cluster], Awaitable[object]]
WRITES: list[tuple[str, Write]] = [
    ("POST team/jobs", lambda to: to.create(JOBS, "team", {})),
    ("DELETE team/jobs/one", lambda to: to.delete(JOBS, "team", "one", "uid", "7")),
    ("DELETE team/pods/one", lambda to: to.remove_pod("team", "one", "uid", "7")),
    ("PATCH team/jobs/one/status", lambda to: to.patch_status(JOBS, "team", "one", "7", {})),
    ("PATCH team/pods/one/status", lambda to: to.patch_pod_status("team", "one", "uid", "7", {})),
]


@dataclass
class Scene:
    """A cluster, what reached its server, and what was counted."""

    cluster: Cluster
    asked: list[str] = field(default_factory=list)
    counted: list[tuple[str, str, str, float | None]] = field(default_factory=list)

    async def follow(self) -> list[Doc]:
        return [found async for found in self.cluster.follow(LEASES, "system", "lease", "7")]


def play(act: Act, answer: Answer, fence: Callable[[], None] = lambda: None) -> None:
    async def main() -> None:
        async def note(request: web.Request) -> web.StreamResponse:
            scene.asked.append(f"{request.method} {request.path.partition('/namespaces/')[2]}")
            return await answer(request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", note)
        # A handler is cancelled when its client goes: that is how `Slow` knows.
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        (port,) = free_ports("127.0.0.1", 1)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        configuration = Configuration(host=f"http://127.0.0.1:{port}")
        transport = Transport(configuration, fence, lambda *told: scene.counted.append(told))
        scene = Scene(Cluster(transport))
        try:
            await asyncio.wait_for(act(scene), 5)
        finally:
            await transport.close()
            await runner.cleanup()

    asyncio.run(main())


class Slow:
    """Answers with these lines, or not at all, and then waits for the client to go."""

    def __init__(self, *lines: bytes) -> None:
        self._lines = lines
        self.left = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if self._lines:
            await response.prepare(request)
        for line in self._lines:
            await response.write(line)
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        return response


def event(kind: str, version: int) -> bytes:
    return json.dumps({"type": kind, "object": {"version": version}}).encode() + b"\n"


async def take(_: web.Request) -> web.Response:
    return web.json_response({"metadata": {"resourceVersion": "7"}, "items": []})


async def forbid(_: web.Request) -> web.Response:
    return web.json_response({"kind": "Status"}, status=403)


@pytest.mark.parametrize(("asked", "write"), WRITES)
def test_nothing_is_written_once_another_replica_may_lead(asked: str, write: Write) -> None:
    async def act(scene: Scene) -> None:
        await write(scene.cluster)
        assert scene.asked == [asked]
        with pytest.raises(LeadershipLost):
            await write(scene.cluster)
        assert scene.asked == [asked]

    play(act, take, Mock(side_effect=[None, LeadershipLost]))


def test_the_lease_is_written_and_all_is_read_whoever_leads() -> None:
    async def act(scene: Scene) -> None:
        lease = {"metadata": {"name": "lease"}}
        await scene.cluster.write_lease("system", lease, create=True, timeout=5)
        await scene.cluster.write_lease("system", lease, create=False, timeout=5)
        await scene.cluster.get(RUNS, "team", "one")
        assert [page async for page in scene.cluster.pages(JOBS, "team")] == [([], 7)]
        assert await scene.follow() == []
        written = ["POST system/leases", "PUT system/leases/lease"]
        read = ["GET team/evaluationruns/one", "GET team/jobs", "GET system/leases"]
        assert scene.asked == written + read

    play(act, take, Mock(side_effect=LeadershipLost))


# A wait of a second outlasts that for the write's turn under the new limit; one of none does not.
@pytest.mark.parametrize(("wait", "holds"), [("1", 1), ("0", 2)], ids=["its wait", "its turn"])
def test_a_write_that_waited_is_not_sent_again_once_another_may_lead(wait: str, holds: int) -> None:
    codes = iter([429])

    async def refuse_once(_: web.Request) -> web.Response:
        return web.json_response({}, status=next(codes, 200), headers={"Retry-After": wait})

    async def act(scene: Scene) -> None:
        with pytest.raises(LeadershipLost):
            await scene.cluster.create(JOBS, "team", {})
        assert scene.asked == ["POST team/jobs"]

    play(act, refuse_once, Mock(side_effect=[*[None] * holds, LeadershipLost]))


def test_an_object_is_followed_until_it_is_gone() -> None:
    server = Slow(*map(event, ["ADDED", "MODIFIED", "DELETED", "MODIFIED"], range(4)))

    async def act(scene: Scene) -> None:
        assert await scene.follow() == [{"version": 0}, {"version": 1}]
        assert scene.counted == [("watch", "leases", "200", None)]
        await server.left.wait()

    play(act, server)


def test_who_stops_following_leaves_no_connection_behind() -> None:
    server = Slow(event("ADDED", 0), event("MODIFIED", 1))

    async def act(scene: Scene) -> None:
        async with aclosing(scene.cluster.follow(LEASES, "system", "lease", "7")) as events:
            assert await anext(events) == {"version": 0}
            assert scene.counted == []
        assert scene.counted == [("watch", "leases", "200", None)]
        await server.left.wait()
        assert len(scene.counted) == 1

    play(act, server)


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (forbid, Forbidden, "403"),
        (Slow(event("ADDED", 0), b"<html>\n"), Unavailable, "200"),
        (Slow(b"[]\n"), Unavailable, "200"),
    ],
)
def test_a_watch_that_fails_says_how(answer: Answer, error: type[ApiError], code: str) -> None:
    async def act(scene: Scene) -> None:
        with pytest.raises(error):
            await scene.follow()
        assert scene.counted == [("watch", "leases", code, None)]

    play(act, answer)


@pytest.mark.parametrize("lines", [(), (b'{"metadata":',)], ids=["no answer", "half an answer"])
def test_an_answer_that_is_late_is_none(lines: tuple[bytes, ...]) -> None:
    server = Slow(*lines)

    async def act(scene: Scene) -> None:
        with pytest.raises(Unavailable):
            await scene.cluster.transport.send(Request("get", "GET", RUNS, "team", timeout=0.2))
        (told,) = scene.counted
        assert told[:3] == ("get", "evaluationruns", "0")
        assert (told[3] or 0) > 0.1
        await server.left.wait()

    play(act, server)
