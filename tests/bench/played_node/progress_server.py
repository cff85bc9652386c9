"""/progress of all pods of the node: one server for all of loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from bench.played_node.statuses import Work, progress
from evalrun_api.names import HTTP_PORT

DELAY_ANNOTATION: Final = "bench.example/delay"
"""Of a pod: how many seconds its endpoint takes to answer."""


async def serve(works: Mapping[str, Work], address: str = "0.0.0.0") -> web.AppRunner:
    """Answer for each pod at its own address. The operator knows one port, so there is one such
    server on a machine.
    """

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        work = works.get(request.transport.get_extra_info("sockname")[0])
        if work is None:
            return web.Response(status=404)
        if delay := float(work.pod["metadata"]["annotations"].get(DELAY_ANNOTATION, 0)):
            await asyncio.sleep(delay)
        body = progress(work, datetime.now(UTC)).body()
        return web.Response(body=body, content_type="application/json")

    application = web.Application()
    application.router.add_get("/progress", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, address, HTTP_PORT, backlog=1024).start()
    return runner
