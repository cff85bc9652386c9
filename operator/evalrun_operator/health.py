"""Whether the operator works, told to the kubelet and to people: /healthz, /readyz, /metrics.

A failing /healthz has the kubelet restart the process, so it fails for what a restart can mend: a
part of the operator that stands still. An API server that does not answer is no such thing; that
makes the replica unready.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

log = logging.getLogger(__name__)

Verdict = dict[str, str]
"""By part: why it is not well. Empty when all is well."""


@dataclass
class Pulse:
    """Signs of life of the operator's loops.

    clock: seconds that only grow.
    """

    clock: Callable[[], float]
    _bounds: dict[str, float] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)

    def expect(self, part: str, seconds: float) -> Callable[[], None]:
        """From now on a part has to give a sign at least so often. Returns how it does."""
        self._bounds[part] = seconds
        self.beat(part)
        return lambda: self.beat(part)

    def beat(self, part: str) -> None:
        """A part gives a sign."""
        self._last[part] = self.clock()

    def end(self, part: str) -> None:
        """A part has ended as it should."""
        self._bounds.pop(part, None)

    def faults(self) -> Verdict:
        """The parts that have been silent for too long."""
        now = self.clock()
        silent = {
            part: (now - self._last[part], bound)
            for part, bound in self._bounds.items()
            if now - self._last[part] > bound
        }
        return {
            part: f"no sign of life for {seconds:.0f} s; expected every {bound:.0f} s"
            for part, (seconds, bound) in silent.items()
        }


METRICS_SHARE = 20
"""The exposition takes at most this part of the time, however often it is asked for."""


class Remembered:
    """A text that is made anew only when that leaves time for all else.

    With thousands of runs it takes a tenth of a second in which nothing else happens, and anybody
    in the cluster may ask for it. clock: seconds that only grow.
    """

    def __init__(self, make: Callable[[], bytes], clock: Callable[[], float]) -> None:
        self._make = make
        self._clock = clock
        self._text = b""
        self._good_until = float("-inf")

    def __call__(self) -> bytes:
        """The text: of now, or of a moment ago."""
        began = self._clock()
        if began >= self._good_until:
            self._text = self._make()
            ended = self._clock()
            self._good_until = ended + (ended - began) * (METRICS_SHARE - 1)
        return self._text


@dataclass
class Checks:
    """What the endpoints say.

    alive, ready: what is wrong, asked at each request. role: leader, standby or starting.
    metrics: the exposition.
    """

    alive: Callable[[], Verdict]
    ready: Callable[[], Verdict]
    role: Callable[[], str]
    metrics: Callable[[], bytes]


def application(checks: Checks) -> web.Application:
    """The HTTP application."""
    exposition = Remembered(checks.metrics, time.monotonic)

    def answer(verdict: Verdict) -> web.Response:
        body = {"ok": not verdict, "role": checks.role(), "faults": verdict}
        return web.json_response(body, status=503 if verdict else 200)

    async def healthz(_: web.Request) -> web.Response:
        return answer(checks.alive())

    async def readyz(_: web.Request) -> web.Response:
        return answer(checks.ready())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


async def serve(checks: Checks, host: str, port: int) -> web.AppRunner:
    """Start serving; `cleanup` ends it. Raises `OSError` if the address is taken."""
    runner = web.AppRunner(application(checks), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    log.info("serving /healthz, /readyz and /metrics on %s:%d", host, port)
    return runner
