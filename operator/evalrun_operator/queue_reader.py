"""Asks Kueue why Jobs wait: in few requests, however many there are.

Nothing is asked while none waits. Else one request in `PAUSE` seconds at the most, about up to
`TOGETHER` Jobs by their uids, so that neither other people's Workloads nor one's own that are at
work are read. With a thousand Jobs each is asked about every half minute.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from evalrun_operator.api_errors import ApiError
from evalrun_operator.cluster import Cluster
from evalrun_operator.decisions import Doc, Word
from evalrun_operator.kueue import ABSENT, GROUP, JOB_UID_LABEL, SILENT, job_of, word_of
from evalrun_operator.resources import Resource
from evalrun_operator.waiting_jobs import WaitingJob, WaitingJobs
from evalrun_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

PAUSE = 3.0
TOGETHER = 100
FRESH_SECONDS = 30.0
"""How old an answer may become before it is asked for again."""
SILENCE_SECONDS = 30.0
"""For so long Kueue may take to make a Workload of a Job."""


@dataclass
class Asked:
    """What was asked about a Job: when first, when last, and the pause until the next time."""

    first: float
    last: float
    pause: float = PAUSE


def due(asked: Mapping[str, Asked], waiting: Collection[str], now: float) -> list[str]:
    """The Jobs to ask about now: none while no answer is missing or old, else as many as go
    together, those first whose answer is the oldest. So they soon are all asked about at once.
    """

    def is_due(uid: str) -> bool:
        return uid not in asked or now - asked[uid].last >= asked[uid].pause

    if not any(is_due(uid) for uid in waiting):
        return []
    oldest = sorted(waiting, key=lambda uid: asked[uid].last if uid in asked else -math.inf)
    return oldest[:TOGETHER]


class QueueReader:
    """Keeps what is known of waiting Jobs fresh.

    namespaces: that may be read; all when empty. clock: seconds that only grow. beat: called at
    each try.
    """

    def __init__(
        self,
        cluster: Cluster,
        waiting: WaitingJobs,
        queue: WorkQueue,
        *,
        namespaces: Sequence[str],
        clock: Callable[[], float],
        beat: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._waiting = waiting
        self._queue = queue
        self._namespaces = namespaces
        self._clock = clock
        self._beat = beat
        self._asked: dict[str, Asked] = {}
        self._workloads: Resource | None = None
        self._complaint = ""

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            self._beat()
            await self.ask()
            await asyncio.sleep(PAUSE)

    async def ask(self) -> None:
        """Ask about the Jobs that are due, if any are."""
        waiting = self._waiting.all()
        self._asked = {uid: asked for uid, asked in self._asked.items() if uid in waiting}
        uids = due(self._asked, waiting, self._clock())
        if not uids:
            return
        if self._namespaces:
            # A list is of one namespace, and one request a time is enough.
            namespace = waiting[uids[0]].namespace
            uids = [uid for uid in uids if waiting[uid].namespace == namespace]
        else:
            namespace = ""
        try:
            words = await self._words(namespace, uids)
        except ApiError as error:
            self._complain(str(error))
            words = {uid: Word("Unreadable", "its Workload cannot be read") for uid in uids}
        else:
            self._complaint = ""
        for uid in uids:
            self._learn(uid, words.get(uid))

    def _learn(self, uid: str, word: Word | None) -> None:
        now = self._clock()
        asked = self._asked.get(uid)
        if asked is None:
            asked = self._asked[uid] = Asked(now, now)
        else:
            asked.last = now
            asked.pause = FRESH_SECONDS if word else min(2 * asked.pause, FRESH_SECONDS)
        if word == SILENT and now - asked.first < SILENCE_SECONDS:
            return
        run = self._waiting.hear(uid, word)
        if run is not None:
            self._queue.add(run)

    async def _words(self, namespace: str, uids: Sequence[str]) -> dict[str, Word | None]:
        """What is known of each Job. Raises `ApiError`."""
        if self._workloads is None:
            self._workloads = await self._find()
        if self._workloads is None:
            return dict.fromkeys(uids, ABSENT)
        selector = f"{JOB_UID_LABEL} in ({','.join(uids)})"
        asked = Resource(self._workloads.base, self._workloads.plural, selector)
        found: dict[str, Word | None] = dict.fromkeys(uids, SILENT)
        try:
            async for workloads, _ in self._cluster.pages(asked, namespace):
                found |= _by_job(workloads, uids, self._waiting.all())
        except ApiError as error:
            if error.code == 404:
                self._workloads = None  # another version of it, or none any more
            raise
        return found

    async def _find(self) -> Resource | None:
        """Where Workloads are; None where there is no Kueue.

        All groups are read, since a 404 for one of them is not the API server's own word.
        """
        groups = (await self._cluster.get(Resource("", "apis"), "", ""))["groups"]
        found = next((group for group in groups if group["name"] == GROUP), None)
        if found is None:
            return None
        return Resource(f"/apis/{found['preferredVersion']['groupVersion']}", "workloads")

    def _complain(self, text: str) -> None:
        """Once about each fault: it is told in the runs' status as well."""
        if text != self._complaint:
            log.warning("why Jobs wait in their queues cannot be read: %s", text)
        self._complaint = text


def _by_job(
    workloads: Sequence[Doc], uids: Sequence[str], waiting: Mapping[str, WaitingJob]
) -> dict[str, Word | None]:
    """By Job. A Workload of another namespace is somebody else's, whatever it says."""
    found: dict[str, Word | None] = {}
    for workload in workloads:
        uid = job_of(workload)
        if uid is None or uid not in uids or uid not in waiting:
            continue
        if workload["metadata"].get("namespace") == waiting[uid].namespace:
            found[uid] = word_of(workload)
    return found
