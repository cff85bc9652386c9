"""Sees when objects appear, in a process of its own: one watch for each kind, one clock for all."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import aiohttp

from bench.control.client import Target

Seen = dict[str, dict[str, float]]
"""By watched path: when each `namespace/name` was first seen, in the machine's steady seconds."""
Told = list[tuple[float, str, int]]
"""When a status said how many requests are done: wall clock, `namespace/name`, requests."""

RUNS = "/apis/lmms-eval.io/v1alpha1/evaluationruns"
JOBS = "/apis/batch/v1/jobs"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class Witness:
    """Watches runs and Jobs from when it is entered.

    progress: watch what runs' statuses tell of progress, too; that is dearer.
    """

    def __init__(self, target: Target, *, progress: bool = False) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_serve, args=(target, progress, self._theirs), daemon=True
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

    def _ask(self, what: str) -> Any:
        self._pipe.send(what)
        return self._pipe.recv()

    def seen(self) -> Seen:
        """What appeared so far."""
        found: Seen = self._ask("seen")
        return found

    def told(self) -> Told:
        """What was told of progress so far."""
        found: Told = self._ask("told")
        return found

    def count(self, path: str) -> int:
        """How many objects of a kind appeared so far; cheap."""
        found: dict[str, int] = self._ask("counts")
        return found[path]


def _serve(target: Target, progress: bool, pipe: Connection) -> None:
    with suppress(KeyboardInterrupt, EOFError):
        asyncio.run(_watch(target, progress, pipe))


async def _watch(target: Target, progress: bool, pipe: Connection) -> None:
    seen: Seen = {RUNS: {}, JOBS: {}}
    told: Told = []
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(ssl=target.tls(), limit=0)
    async with aiohttp.ClientSession(target.server, connector=connector, trust_env=False) as http:
        begun = {path: loop.create_future() for path in seen}
        tasks = [
            asyncio.create_task(
                _one(http, path, seen[path], told if progress and path == RUNS else None, at)
            )
            for path, at in begun.items()
        ]
        waits: list[asyncio.Future[Any]] = [asyncio.gather(*begun.values()), *tasks]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        _check(tasks)
        pipe.send("ready")
        while True:
            asked = await loop.run_in_executor(None, pipe.recv)
            _check(tasks)
            counts = {path: len(names) for path, names in seen.items()}
            pipe.send({"seen": seen, "told": told, "counts": counts}[asked])


def _check(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


async def _one(
    http: aiohttp.ClientSession,
    path: str,
    seen: dict[str, float],
    told: Told | None,
    begun: asyncio.Future[None],
) -> None:
    headers = {"Accept": METADATA_ONLY if told is None else "application/json"}
    async with http.get(path, params={"limit": "1"}) as answer:
        version = (await answer.json())["metadata"]["resourceVersion"]
    params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "36000"}
    forever = aiohttp.ClientTimeout(total=None)
    async with http.get(path, params=params, headers=headers, timeout=forever) as answer:
        answer.raise_for_status()
        begun.set_result(None)
        rest = b""
        async for chunk in answer.content.iter_any():
            now = time.monotonic()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                _note(json.loads(line), now, seen, told)
    raise RuntimeError(f"the watch of {path} ended")


def _note(event: dict[str, Any], now: float, seen: dict[str, float], told: Told | None) -> None:
    metadata = event["object"]["metadata"]
    name = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    if event["type"] == "ADDED":
        seen.setdefault(name, now)
    elif event["type"] == "MODIFIED" and told is not None:
        progress = (event["object"].get("status") or {}).get("progress") or {}
        if "requestsDone" in progress:
            told.append((time.time(), name, int(progress["requestsDone"])))
