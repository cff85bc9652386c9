"""Those who apply the runs, and change their minds."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from bench.api_client import ApiAnswerError, ApiClient, Doc
from bench.chaos.judge import Expected
from bench.chaos.scripts import Script, parallelism
from bench.chaos.witness import JOBS, RUNS, Witness

PATIENCE_SECONDS = 10.0
"""For which somebody looks for a Job to delete."""


class People:
    """Plays scripts. expected: how each run is to end, by its uid; one that is deleted has no end.

    late: names of those that had not ended when they had to. deadline: seconds in which a run has
    to end once nobody acts any more.
    """

    def __init__(self, api: ApiClient, witness: Witness, seed: int, deadline: float) -> None:
        self.expected: dict[str, Expected] = {}
        self.late: list[str] = []
        self.acts = 0
        self.done = 0
        self._api = api
        self._witness = witness
        self._deadline = deadline
        self._random = random.Random(f"people {seed}")

    async def play(self, scripts: list[Script], at_once: int) -> None:
        """All of them, so many at the same time."""
        free = asyncio.Semaphore(at_once)

        async def one(script: Script) -> None:
            try:
                await self._live(script)
            finally:
                self.done += 1
                free.release()

        async with asyncio.TaskGroup() as group:
            for script in scripts:
                await free.acquire()
                group.create_task(one(script))

    async def _live(self, script: Script) -> None:
        uid = await self._create(script)
        await asyncio.sleep(script.after)
        if script.act == "suspend":
            await self._suspend(script)
        elif script.act == "delete_job":
            await self._delete_job(script, uid)
        elif script.act in ("delete", "reapply"):
            self.acts += 1
            del self.expected[uid]
            await self._api.request("DELETE", _path(script))
            if script.act == "delete":
                return
            await asyncio.sleep(script.hold / 3)
            uid = await self._create(script)
        if not await self._witness.ended(uid, self._deadline):
            self.late.append(f"{script.namespace}/{script.name} ({uid[:8]})")

    async def _create(self, script: Script) -> str:
        created = await self._api.request("POST", _path(script, named=False), script.manifest())
        uid: str = created["metadata"]["uid"]
        phase = "Failed" if script.fails else "Succeeded"
        self.expected[uid] = Expected(phase, script.steps, script.counted_failures)
        return uid

    async def _suspend(self, script: Script) -> None:
        self.acts += 1
        await self._api.merge(_path(script), {"spec": {"suspend": True}})
        await asyncio.sleep(script.hold)
        spread = parallelism(script.reshaped)
        await self._api.merge(_path(script), {"spec": {"suspend": False, "parallelism": spread}})

    async def _delete_job(self, script: Script, uid: str) -> None:
        """Delete the Job that is there, once there is one."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_SECONDS
        while loop.time() < until:
            record = self._witness.record(uid)
            there = (
                [job for job in record.jobs.values() if not job.versions[-1].gone] if record else []
            )
            if there:
                job = self._random.choice(there)
                options: Doc = {
                    "propagationPolicy": self._random.choice(("Background", "Foreground")),
                    "preconditions": {"uid": job.uid},
                }
                path = f"{JOBS.removesuffix('/jobs')}/namespaces/{script.namespace}/jobs/{job.name}"
                with suppress(ApiAnswerError):  # it went meanwhile
                    await self._api.once("DELETE", path, options)
                    self._witness.history.by_hand(job.uid)
                    self.acts += 1
                return
            await asyncio.sleep(0.1)


def _path(script: Script, *, named: bool = True) -> str:
    group = RUNS.removesuffix("/evaluationruns")
    path = f"{group}/namespaces/{script.namespace}/evaluationruns"
    return f"{path}/{script.name}" if named else path
