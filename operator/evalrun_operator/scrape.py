"""Reads progress from the pods themselves, so that it costs the API server nothing.

Whatever a pod answers is untrusted, and completion never depends on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import aiohttp
from pydantic import ValidationError

from evalrun_api.names import HTTP_PORT, RUN_LABEL
from evalrun_api.operator_config import ScrapeSettings
from evalrun_api.progress import MAX_BODY_BYTES, Progress
from evalrun_operator.attempts import INDEX_ANNOTATION
from evalrun_operator.decisions import Doc, RunKey
from evalrun_operator.progress import MAX_BENCHMARKS
from evalrun_operator.store import Store

log = logging.getLogger(__name__)

MAX_SKIPS: Final = 32
"""Intervals for which a pod is left alone at most that failed to answer again and again."""


QUICK_SECONDS: Final = 0.5
"""A pod that takes longer is slow from then on: slow ones wait for each other alone."""


READINGS_A_SECOND: Final = 200
"""At most, over all pods: each takes a millisecond of all else that the operator does."""
BEAT_SECONDS: Final = 10.0


class Unusable(Exception):  # noqa: N818 - an outcome
    """A pod's answer that is no progress. Its text is one of few words, for a metric."""


class Scraper:
    """Reads the progress of all pods at work, each on its own.

    changed: told of the run whose progress is new. tried: told of each reading that has ended.
    failed: told why one failed. random: from [0, 1), for jitter. beat: called at each round. port:
    of the pods' /progress.
    """

    def __init__(
        self,
        store: Store,
        settings: ScrapeSettings,
        *,
        changed: Callable[[RunKey], None],
        failed: Callable[[str], None],
        tried: Callable[[], None],
        random: Callable[[], float],
        beat: Callable[[], None],
        port: int = HTTP_PORT,
    ) -> None:
        self._store = store
        self._settings = settings
        self._changed = changed
        self._failed = failed
        self._tried = tried
        self._random = random
        self._beat = beat
        self._port = port
        self._quick = asyncio.Semaphore(settings.concurrency)
        self._slow = asyncio.Semaphore(settings.concurrency)
        self._are_slow: set[str] = set()
        self._interval = float(settings.interval_seconds)
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, int] = {}
        self._skips: dict[str, int] = {}

    async def run(self) -> None:
        """Read for ever."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        ) as session:
            try:
                while True:
                    self._begin_round(session)
                    await self._pause(self._interval * (0.9 + 0.2 * self._random()))
            finally:
                tasks = list(self._in_flight.values())
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _begin_round(self, session: aiohttp.ClientSession) -> None:
        """Start a reading of each pod that has none under way; wait for none."""
        pods = list(self._store.pods_at_work())
        self._interval = max(self._settings.interval_seconds, len(pods) / READINGS_A_SECOND)
        present = set()
        for pod in pods:
            uid = pod["metadata"]["uid"]
            present.add(uid)
            if uid in self._in_flight or self._is_skipped(uid):
                continue
            address = (pod.get("status") or {}).get("podIP")
            if not address:
                continue
            task = asyncio.create_task(self._read(session, uid, str(address), pod))
            self._in_flight[uid] = task
            task.add_done_callback(partial(self._landed, uid))
        self._are_slow &= present
        for known in (self._failures, self._skips):
            for uid in known.keys() - present:
                del known[uid]

    async def _pause(self, seconds: float) -> None:
        while seconds > 0:
            self._beat()
            await asyncio.sleep(min(seconds, BEAT_SECONDS))
            seconds -= BEAT_SECONDS

    def _landed(self, uid: str, _: object) -> None:
        self._in_flight.pop(uid, None)

    def _is_skipped(self, uid: str) -> bool:
        left = self._skips.get(uid, 0)
        if left:
            self._skips[uid] = left - 1
        return left > 0

    async def _read(self, session: aiohttp.ClientSession, uid: str, address: str, pod: Doc) -> None:
        # Spread over the interval's first half, so that a thousand pods are no burst.
        await asyncio.sleep(self._random() * self._interval / 2)
        try:
            progress = await self._fetch(session, uid, address)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, Unusable) as error:
            failures = self._failures[uid] = self._failures.get(uid, 0) + 1
            self._skips[uid] = min(2 ** (failures - 1) - 1, MAX_SKIPS)
            self._tried()
            self._failed(reason_of(error))
            log.debug("no progress: %r", error, extra=about(pod))
            return
        self._tried()
        self._failures.pop(uid, None)
        self._skips.pop(uid, None)
        key = self._store.put_progress(uid, progress)
        if key is not None:
            self._changed(key)

    async def _fetch(self, session: aiohttp.ClientSession, uid: str, address: str) -> Progress:
        """Read from a pod: first as one of the quick ones, unless it is known to be slow."""
        timeout = float(self._settings.timeout_seconds)
        if uid not in self._are_slow:
            with contextlib.suppress(TimeoutError):
                async with self._quick, asyncio.timeout(min(QUICK_SECONDS, timeout)):
                    return await fetch(session, address, self._port)
            self._are_slow.add(uid)
        loop = asyncio.get_running_loop()
        async with self._slow, asyncio.timeout(timeout):
            began = loop.time()
            progress = await fetch(session, address, self._port)
        if loop.time() - began < QUICK_SECONDS:
            self._are_slow.discard(uid)
        return progress


async def fetch(session: aiohttp.ClientSession, address: str, port: int) -> Progress:
    """What a pod says of its progress. Raises `Unusable`, `aiohttp.ClientError`, `ValueError`."""
    host = ipaddress.ip_address(address)
    where = f"[{host}]" if host.version == 6 else str(host)
    async with session.get(f"http://{where}:{port}/progress", allow_redirects=False) as response:
        if response.status != 200:
            raise Unusable("status")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise Unusable("size")
    try:
        return _of_use(Progress.model_validate_json(bytes(body), strict=True))
    except (ValidationError, RecursionError) as error:
        raise Unusable("content") from error


def _of_use(said: Progress) -> Progress:
    """What a decision may rest on. The rest differs at every reading, and thousands are kept."""
    return Progress(
        step=said.step,
        activity=said.activity,
        requests_done=said.requests_done,
        requests_total=said.requests_total,
        errors=said.errors,
        restarts=said.restarts,
        requests_per_second=said.requests_per_second,
        tasks=said.tasks[:MAX_BENCHMARKS],
    )


def about(pod: Doc) -> dict[str, str]:
    """The fields of a log line about a pod."""
    metadata = pod["metadata"]
    found = {
        "run": f"{metadata['namespace']}/{(metadata.get('labels') or {}).get(RUN_LABEL, '')}",
        "shard": str((metadata.get("annotations") or {}).get(INDEX_ANNOTATION, "")),
        "attempt": str(metadata["uid"]),
        "pod": str(metadata["name"]),
    }
    return {name: value for name, value in found.items() if value}


def reason_of(error: Exception) -> str:
    """Why a reading failed, in one of few words."""
    if isinstance(error, Unusable):
        return str(error)
    return "timeout" if isinstance(error, TimeoutError) else "connection"
