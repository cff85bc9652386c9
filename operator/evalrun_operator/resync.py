"""Reads everything anew from time to time: what a watch missed must not live on in memory.

The first reading is what makes the Store synced: no decision is made before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from evalrun_operator import memory
from evalrun_operator.api_errors import ApiError
from evalrun_operator.cluster import Cluster
from evalrun_operator.resources import JOBS, PODS, RUNS, Resource
from evalrun_operator.standing import is_told_to_wait
from evalrun_operator.store import Store
from evalrun_operator.strip import KINDS, Kind
from evalrun_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

RESOURCES: dict[Kind, Resource] = {"EvaluationRun": RUNS, "Job": JOBS, "Pod": PODS}
SOON = 10.0
"""Seconds after a watch has begun anew. What was deleted in its gap, it does not tell."""
RETRY, LONGEST_RETRY = 2.0, 60.0
SPREAD = 30.0
"""Seconds over which finished runs are looked at after a reading, so that new ones don't wait."""

LINE_SPREAD = 300.0
"""The same of runs that wait in line, each of which may be told its place anew then."""


class HistoryChanged(Exception):  # noqa: N818 - a state
    """The API server knows less than it did: what is in memory cannot be trusted."""


class Resync:
    """Fills the Store from lists.

    interval: seconds between two readings. namespaces: that are read; all when empty. random: from
    [0, 1), for jitter. beat: called at each try.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        queue: WorkQueue,
        *,
        interval: float,
        namespaces: Sequence[str],
        random: Callable[[], float],
        beat: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._queue = queue
        self._interval = interval
        self._namespaces = namespaces or [""]
        self._random = random
        self._beat = beat
        self._due = 0.0
        self._changed = asyncio.Event()
        self.synced = asyncio.Event()

    def soon(self) -> None:
        """Read in a few seconds, since a watch may have missed something."""
        due = asyncio.get_running_loop().time() + SOON
        if self._due > due:
            self._due = due
            self._changed.set()

    async def run(self) -> None:
        """Read for ever. Raises `HistoryChanged`."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            self._beat()
            try:
                await self.read()
                failures = 0
                delay = self._interval * (0.9 + 0.2 * self._random())
            except ApiError as error:
                hint = "; are the CRDs installed?" if error.code == 404 else ""
                log.warning("the cluster could not be read in full: %s%s", error, hint)
                delay = min(RETRY * 2.0**failures, LONGEST_RETRY) * (0.5 + self._random() / 2)
                failures += 1
            self._due = loop.time() + delay
            while (left := self._due - loop.time()) > 0:
                self._beat()
                self._changed.clear()
                try:
                    async with asyncio.timeout(min(left, 60.0)):
                        await self._changed.wait()
                except TimeoutError:
                    pass

    async def read(self) -> None:
        """Read all kinds once, and queue what needs a look. Raises `ApiError`."""
        began = asyncio.get_running_loop().time()
        first = not self._store.synced
        for kind in KINDS:
            for namespace in self._namespaces:
                await self._read_kind(kind, namespace, first)
        for key in self._store.active():
            # Of those in line there may be thousands, and each might be told its place anew.
            waits = is_told_to_wait(self._store.run(key)) and not self._store.has_jobs(key)
            self._queue.add(key, after=LINE_SPREAD * self._random() if waits else 0.0)
        for key in self._store.finished_with_jobs():
            self._queue.add(key, after=SPREAD * self._random())
        memory.give_back()
        self.synced.set()
        counts = {kind: self._store.count(kind) for kind in KINDS}
        seconds = asyncio.get_running_loop().time() - began
        log.info("read %s in %.1f s", counts, seconds)

    async def _read_kind(self, kind: Kind, namespace: str, first: bool) -> None:
        uids: set[str] = set()
        version = 0
        async for documents, version in self._cluster.pages(RESOURCES[kind], namespace):
            if version < self._store.floor(kind, namespace):
                raise HistoryChanged(
                    f"{kind}: a list is of version {version}, an earlier one was of "
                    f"{self._store.floor(kind, namespace)}; was etcd restored from a backup?"
                )
            self._beat()
            for document in documents:
                uids.add(document["metadata"]["uid"])
                key = self._store.put(kind, document, version, first_hand=not first)
                if key is not None and not first:
                    self._queue.add(key)
            await asyncio.sleep(0)
        for key in self._store.keep_only(kind, uids, version, namespace):
            self._queue.add(key)
