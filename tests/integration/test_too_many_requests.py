"""The operator's client at a server that takes so many requests a second, and 429 for the rest."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from cluster.ports import free_ports
from evalrun_operator.api_errors import Unavailable
from evalrun_operator.cluster import Cluster
from evalrun_operator.resources import CONFIG_MAPS, JOBS
from evalrun_operator.transport import Transport

pytestmark = pytest.mark.integration

MOST = 40
SECONDS = 15.0
WORKERS = 16


class Server:
    """Takes MOST requests in any second, Leases apart, as API priority and fairness does."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self._recent: deque[float] = deque()

    async def answer(self, request: web.Request) -> web.Response:
        if "leases" in request.path:
            return web.json_response({"kind": "Lease", "metadata": {}})
        now = time.monotonic()
        while self._recent and self._recent[0] < now - 1:
            self._recent.popleft()
        if len(self._recent) >= MOST:
            self.answers[429] += 1
            return web.json_response({"kind": "Status"}, status=429, headers={"Retry-After": "1"})
        self._recent.append(now)
        self.answers[200] += 1
        return web.json_response({"metadata": {"name": "one"}})


def test_as_much_is_asked_for_as_is_taken_and_the_lease_waits_for_nothing(
    show_figure: Callable[[str], None],
) -> None:
    server, late, longest = Server(), Counter[str](), 0.0

    async def work(cluster: Cluster, until: float, number: int) -> None:
        while time.monotonic() < until:
            try:
                if number % 2:
                    await cluster.get(CONFIG_MAPS, "team", "one")
                else:
                    await cluster.create(JOBS, "team", {"metadata": {"name": "one"}})
            except Unavailable:
                late["gave up"] += 1

    async def renew(cluster: Cluster, until: float) -> None:
        nonlocal longest
        while time.monotonic() < until:
            begun = time.monotonic()
            lease = {"metadata": {"name": "lease"}}
            await cluster.write_lease("system", lease, create=False, timeout=5)
            longest = max(longest, time.monotonic() - begun)
            await asyncio.sleep(0.2)

    async def main() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        (port,) = free_ports("127.0.0.1", 1)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        configuration = Configuration(host=f"http://127.0.0.1:{port}")
        transport = Transport(configuration, lambda: None, lambda *_: None)
        cluster = Cluster(transport)
        until = time.monotonic() + SECONDS
        workers = [work(cluster, until, number) for number in range(WORKERS)]
        await asyncio.gather(*workers, renew(cluster, until))
        assert transport.limit.per_second is not None
        assert transport.limit.waiting == 0
        await transport.close()
        await runner.cleanup()

    asyncio.run(main())
    taken = server.answers[200] / SECONDS
    show_figure(
        f"{MOST} requests a second are taken: {taken:.1f} were, {server.answers[429]} got 429 in "
        f"{SECONDS:.0f} s; the Lease waited {longest * 1000:.0f} ms at most"
    )
    assert taken > 0.75 * MOST
    assert server.answers[429] < 0.15 * server.answers[200]
    assert late["gave up"] == 0
    assert longest < 1
