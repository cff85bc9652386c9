"""The proxy of `make chaos` does what it says, at a server that counts what reaches it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bench.api_faults import draws, watching
from bench.api_faults.draws import SHARES, Draws, Fault, Kind
from bench.api_faults.proxy import FaultProxy, kind_of
from cluster.ports import free_ports

pytestmark = pytest.mark.decisions

JOBS = "/apis/batch/v1/namespaces/team/jobs"
PATHS: dict[Kind, tuple[str, str]] = {
    "write": ("POST", JOBS),
    "get": ("GET", f"{JOBS}/one"),
    "list": ("GET", JOBS),
    "watch": ("GET", f"{JOBS}?watch=true"),
    "lease": ("PUT", "/apis/coordination.k8s.io/v1/namespaces/system/leases/it"),
}
EVENTS = 40


class Bystander:
    """Kills nobody, but may pretend to."""

    kills = ""

    def before(self, at: float) -> bool:
        return self.kills == "before"

    def after(self, at: float, code: int) -> bool:
        return self.kills == "after"


class Fixed(Draws):
    """Always the same fault, and no long delay."""

    def __init__(self, fault: Fault = "none") -> None:
        super().__init__(1)
        self.fault = fault

    def request(self, kind: Kind) -> Fault:
        return self.fault

    def chance(self, share: float) -> bool:
        return share < 1 and self.fault == "none" and super().chance(share)

    def delay(self, kind: Kind) -> float:
        return 0.05

    def cut_after(self) -> float:
        return 60.0


class Server:
    """An API server: it answers each request with its number, and a watch with events."""

    def __init__(self) -> None:
        self.taken = 0
        self.tokens: set[str] = set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.taken += 1
        self.tokens.add(request.headers.get("Authorization", ""))
        if request.query.get("watch") != "true":
            return web.json_response({"number": self.taken})
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(EVENTS):
            event = {"type": "ADDED", "object": {"number": number}}
            await response.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
        await response.write_eof()
        return response


class Client:
    def __init__(self, session: aiohttp.ClientSession, server: Server, draws: Draws) -> None:
        self.server = server
        self.draws = draws
        self.bystander = Bystander()
        self._session = session

    async def send(self, kind: Kind) -> tuple[int, bytes] | None:
        """Code and body; None for a connection that was reset."""
        method, path = PATHS[kind]
        try:
            async with self._session.request(method, path) as answer:
                return answer.status, await answer.read()
        except aiohttp.ClientError:
            return None


@asynccontextmanager
async def between(draws: Draws) -> AsyncIterator[Client]:
    """A client, the proxy, and the server behind it."""
    server = Server()
    runner = web.ServerRunner(web.Server(server.answer))
    await runner.setup()
    behind, before = free_ports("127.0.0.1", 2)
    await web.TCPSite(runner, "127.0.0.1", behind).start()
    bystander = Bystander()
    proxy = FaultProxy(f"http://127.0.0.1:{behind}", None, draws, bystander)
    await proxy.start(before)
    headers = {"Authorization": "Bearer secret"}
    base = f"http://127.0.0.1:{before}"
    # One connection each: what was reset is never sent again by the client itself.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(base, headers=headers, connector=connector) as session:
        client = Client(session, server, draws)
        client.bystander = bystander
        yield client
    await proxy.stop()
    await runner.cleanup()


def with_fault(fault: Fault, told: Callable[[Client], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with between(Fixed(fault)) as client:
            return await told(client)

    return asyncio.run(run())


async def _write(client: Client) -> tuple[int | None, Any, int]:
    """Code, body and how often the server has carried it out."""
    answer = await client.send("write")
    code, body = answer or (None, b"null")
    return code, json.loads(body), client.server.taken


def test_without_a_fault_a_request_passes_with_its_token() -> None:
    async def tell(client: Client) -> tuple[Any, set[str]]:
        return await _write(client), client.server.tokens

    assert with_fault("none", tell) == ((200, {"number": 1}, 1), {"Bearer secret"})


def test_a_dropped_request_is_not_carried_out() -> None:
    assert with_fault("drop", _write) == (None, None, 0)


def test_a_lost_reply_is_of_a_request_that_was_carried_out() -> None:
    assert with_fault("lost_reply", _write) == (None, None, 1)


def test_a_duplicated_write_is_carried_out_twice_and_answered_once() -> None:
    code, body, taken = with_fault("duplicate", _write)
    assert (code, taken) == (200, 2)
    assert body["number"] in (1, 2)


def test_a_delayed_request_is_carried_out_all_the_same() -> None:
    assert with_fault("delay", _write) == (200, {"number": 1}, 1)


def test_a_delayed_request_outlives_its_sender() -> None:
    async def tell(client: Client) -> int:
        sending = asyncio.create_task(client.send("write"))
        await asyncio.sleep(0.02)
        sending.cancel()
        await asyncio.sleep(0.2)
        return client.server.taken

    assert with_fault("delay", tell) == 1


@pytest.mark.parametrize(
    ("fault", "codes", "reasons"),
    [
        ("conflict", {409}, {"AlreadyExists"}),
        ("too_many", {429}, {"TooManyRequests"}),
        ("unavailable", {500, 503}, {"InternalError", "ServiceUnavailable"}),
    ],
)
def test_a_refused_request_is_not_carried_out(
    fault: Fault, codes: set[int], reasons: set[str]
) -> None:
    async def tell(client: Client) -> list[Any]:
        return [await _write(client) for _ in range(20)]

    told = with_fault(fault, tell)
    assert {code for code, _, _ in told} == codes
    assert {body["reason"] for _, body, _ in told} == reasons
    assert told[-1][2] == 0


def test_a_stale_list_is_an_earlier_answer() -> None:
    async def tell(client: Client) -> list[Any]:
        answers = [await client.send("list")]  # there is no earlier one, so it is true
        answers += [await client.send("list")]
        return [json.loads(body) for _, body in filter(None, answers)]

    assert with_fault("stale_list", tell) == [{"number": 1}, {"number": 1}]


def test_a_watch_that_has_to_begin_anew_is_told_so() -> None:
    async def tell(client: Client) -> Any:
        return await client.send("watch")

    code, body = with_fault("gone", tell)
    (line,) = body.splitlines()
    assert (code, json.loads(line)["object"]["code"]) == (200, 410)


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_is_killed_at_a_write_hears_nothing_of_it(when: str) -> None:
    async def tell(client: Client) -> Any:
        client.bystander.kills = when
        return await _write(client)

    assert with_fault("none", tell) == (None, None, 0 if when == "before" else 1)


def test_events_come_late_and_repeated_but_each_comes_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "LATE_EVENTS", 0.2)
    monkeypatch.setattr(watching, "LONGEST_LATE_SECONDS", 0.01)
    monkeypatch.setattr(watching, "REPEATED_EVENTS", 0.3)

    async def tell(client: Client) -> tuple[Any, Any]:
        return await client.send("watch"), client.draws.seen

    (_, body), seen = with_fault("none", tell)
    numbers = [json.loads(line)["object"]["number"] for line in body.splitlines()]
    assert list(dict.fromkeys(numbers)) == list(range(EVENTS))
    assert len(numbers) == EVENTS + seen["watch: repeated_event"] > EVENTS
    assert seen["watch: late_event"] > 0


def test_a_watch_is_cut_while_nothing_happens() -> None:
    class Soon(Fixed):
        def cut_after(self) -> float:
            return 0.02

    async def lines() -> AsyncIterator[bytes]:
        yield b"1\n"
        await asyncio.sleep(60)

    async def run() -> list[bytes]:
        found = []
        with pytest.raises(watching.CutError):
            async for line in watching.disturbed(lines(), Soon()):
                found.append(line)
        return found

    assert asyncio.run(run()) == [b"1\n"]


def test_every_fault_is_met_sooner_or_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "DELAY_SECONDS", 0.0)
    monkeypatch.setattr(draws, "VERY_LATE_SECONDS", 0.0)
    monkeypatch.setattr(draws, "LONGEST_DELAY", {"lease": 0.0})

    async def run() -> set[str]:
        async with between(Draws(5)) as client:
            for kind, shares in SHARES.items():
                often = round(6 / min(shares.values()))
                await asyncio.gather(*(client.send(kind) for _ in range(often)))
            return {name for name, count in client.draws.seen.items() if count}

    wanted = {f"{kind}: {fault}" for kind, shares in SHARES.items() for fault in shares}
    assert wanted <= asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "query", "kind"),
    [
        ("GET", "/apis/lmms-eval.io/v1alpha1/evaluationruns", {}, "list"),
        ("GET", "/api/v1/pods", {"watch": "true"}, "watch"),
        ("GET", "/api/v1/namespaces/team/configmaps/one-plan", {}, "get"),
        ("GET", "/api/v1", {}, "get"),
        ("PATCH", "/apis/lmms-eval.io/v1alpha1/namespaces/a/evaluationruns/b/status", {}, "write"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", {}, "lease"),
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", {}, "lease"),
    ],
)
def test_requests_are_told_apart(method: str, path: str, query: dict[str, str], kind: Kind) -> None:
    assert kind_of(method, path, query) == kind
