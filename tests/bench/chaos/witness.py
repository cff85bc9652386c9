"""Watches runs and Jobs at the API server itself, and tells who waits for a run's end."""

from __future__ import annotations

import asyncio

from bench.api_client import ApiClient
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
        """Watch until cancelled. Nothing may be there yet."""
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
        async for event in self._api.watch(RUNS, {}):
            if event.type == "LISTED":
                self.history.gaps += 1
            record = self.history.run(event)
            if record.uid in self._changed:
                self._changed[record.uid].set()

    async def _watch_jobs(self) -> None:
        async for event in self._api.watch(JOBS, {"labelSelector": RUN_LABEL}):
            if event.type == "LISTED":
                self.history.gaps += 1
            self.history.job(event)
