"""Sees when objects appear, in a process of its own: one watch each, one clock for all."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType

import aiohttp

from bench.control.client import METADATA_ONLY, Target, session

Seen = dict[str, dict[str, float]]
"""By watched path: when an object's name was first seen, in the machine's steady seconds."""


class Witness:
    """Watches paths from when it is entered; `seen` asks it."""

    def __init__(self, target: Target, paths: list[str]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_serve, args=(target, paths, self._theirs), daemon=True
        )

    def __enter__(self) -> Witness:
        self._process.start()
        self._theirs.close()  # so that its end is noticed
        assert self._pipe.recv() == "ready"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()

    def seen(self) -> Seen:
        """What was seen so far."""
        self._pipe.send("seen")
        found: Seen = self._pipe.recv()
        return found

    def counts(self) -> dict[str, int]:
        """How many objects of each path were seen so far; cheap."""
        self._pipe.send("counts")
        found: dict[str, int] = self._pipe.recv()
        return found


def _serve(target: Target, paths: list[str], pipe: Connection) -> None:
    with suppress(KeyboardInterrupt, EOFError):
        asyncio.run(_watch(target, paths, pipe))


async def _watch(target: Target, paths: list[str], pipe: Connection) -> None:
    seen: Seen = {path: {} for path in paths}
    loop = asyncio.get_running_loop()
    async with session(target, connections=0) as http:
        started = [loop.create_future() for _ in paths]
        tasks = [
            asyncio.create_task(_one(http, path, seen[path], begun))
            for path, begun in zip(paths, started, strict=True)
        ]
        begun = asyncio.gather(*started)
        await asyncio.wait((begun, *tasks), return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        pipe.send("ready")
        while True:
            asked = await loop.run_in_executor(None, pipe.recv)
            for task in tasks:
                if task.done():
                    task.result()
            if asked == "counts":
                pipe.send({path: len(names) for path, names in seen.items()})
            else:
                pipe.send(seen)


async def _one(
    http: aiohttp.ClientSession, path: str, seen: dict[str, float], begun: asyncio.Future[None]
) -> None:
    headers = {"Accept": METADATA_ONLY}
    async with http.get(path, params={"limit": "1"}) as answer:
        version = (await answer.json())["metadata"]["resourceVersion"]
    params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "7200"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with http.get(path, params=params, headers=headers, timeout=timeout) as answer:
        answer.raise_for_status()
        begun.set_result(None)
        while line := await answer.content.readline():
            now = time.monotonic()
            event = json.loads(line)
            if event["type"] == "ADDED":
                metadata = event["object"]["metadata"]
                seen.setdefault(f"{metadata.get('namespace', '')}/{metadata['name']}", now)
    raise RuntimeError(f"the watch of {path} ended")
