"""Watches runs and Jobs at the API server itself, and tells who waits for a run's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from bench.api_client import ApiClient, WatchEvent
from bench.chaos.history import History, RunRecord
from evalrun_api import API_VERSION
from evalrun_api.names import RUN_LABEL

RUNS = f"/apis/{API_VERSION}/evaluationruns"
JOBS = "/apis/batch/v1/jobs"


class Witness:
    """Keeps the history."""

    def __init__(self, api: ApiClient) -> None:
        self.history = History()
        self._api = api
        self._changed: dict[str, asyncio.Event] = {}

    async def run(self) -> None:
        """Watch until cancelled, from before anything is changed for a second time."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_runs())
            group.create_task(self._watch_jobs())

    async def ended(self, uid: str, seconds: float) -> bool:
        """Wait until a run has ended; False if it has not in time."""
        changed = self._changed.setdefault(uid, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                while not self._has_ended(uid):
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        return True

    def record(self, uid: str) -> RunRecord | None:
        """What is known of a run."""
        return self.history.by_uid.get(uid)

    def _has_ended(self, uid: str) -> bool:
        record = self.record(uid)
        last = record.last if record is not None else None
        return last is not None and last.ended

    async def _watch_runs(self) -> None:
        async for event in self._unbroken(RUNS, {}):
            record = self.history.run(event)
            if record.uid in self._changed:
                self._changed[record.uid].set()

    async def _watch_jobs(self) -> None:
        async for event in self._unbroken(JOBS, {"labelSelector": RUN_LABEL}):
            self.history.job(event)

    async def _unbroken(self, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
        """The events of a watch. What is listed after the first of them tells of a gap."""
        begun = False
        async for event in self._api.watch(path, query):
            if event.type == "LISTED":
                self.history.gaps += begun
            else:
                begun = True
            yield event
