"""A proxy before the API server that holds back watches: what is written there is seen late."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import aiohttp
from aiohttp import web

from cluster.ports import free_ports


class LateProxy:
    """Plain HTTP in front of another server of plain HTTP. To be closed.

    late: part of the paths whose watches are held back, and for how many seconds.
    """

    def __init__(self, upstream: str, late: str, seconds: float) -> None:
        (port,) = free_ports("127.0.0.1", 1)
        self.address = f"http://127.0.0.1:{port}"
        self.held_back = 0
        self._upstream = upstream
        self._late = late
        self._seconds = seconds
        self._loop = asyncio.new_event_loop()
        self._port = port
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,))
        self._thread.start()
        assert ready.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        self._task = self._loop.create_task(self._serve(ready))
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        # Sockets close a moment after their session.
        self._loop.run_until_complete(asyncio.sleep(0.25))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as self._session:
            app = web.Application(client_max_size=2**24)
            app.router.add_route("*", "/{path:.*}", self._pass_on)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
            ready.set()
            try:
                await asyncio.Event().wait()
            finally:
                await runner.cleanup()
                # What waits for a watch's next word would be left to the garbage collector.
                left = asyncio.all_tasks() - {asyncio.current_task()}
                for task in left:
                    task.cancel()
                await asyncio.gather(*left, return_exceptions=True)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        dropped = {"host", "content-length", "transfer-encoding", "connection"}
        headers = {k: v for k, v in request.headers.items() if k.lower() not in dropped}
        url = f"{self._upstream}{request.path_qs}"
        body = await request.read() or None
        async with self._session.request(request.method, url, headers=headers, data=body) as found:
            kept = {k: v for k, v in found.headers.items() if k.lower() not in dropped}
            answer = web.StreamResponse(status=found.status, headers=kept)
            await answer.prepare(request)
            late = "watch" in request.query and self._late in request.path
            due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
            writing = asyncio.create_task(self._write(answer, due))
            try:
                async for chunk in found.content.iter_any():
                    self.held_back += late
                    await due.put((self._loop.time() + self._seconds * late, chunk))
                await due.put((0.0, b""))
                await writing
            finally:
                writing.cancel()
            return answer

    async def _write(
        self, answer: web.StreamResponse, due: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        while True:
            at, chunk = await due.get()
            if not chunk:
                return
            await asyncio.sleep(max(at - self._loop.time(), 0.0))
            with contextlib.suppress(ConnectionError):
                await answer.write(chunk)
