"""Many runs in the small world, and the operator's own Controller, Gate, Store and Executor."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, cast

from fake_api import merged
from world import Conflict, Crashed, Forbidden, LostReply, Missing, World, condition, owner
from world_documents import configuration, run_document

from evalrun_operator import api_errors
from evalrun_operator.cluster import Cluster
from evalrun_operator.controller import Controller
from evalrun_operator.decisions import RunKey
from evalrun_operator.executor import Again, Executor
from evalrun_operator.gate import Gate
from evalrun_operator.metrics import Metrics
from evalrun_operator.pacing import Pacing
from evalrun_operator.reconcile import reconcile
from evalrun_operator.resources import BENCHMARKS, CONFIG_MAPS, EVENTS, JOBS, RUNS, Resource
from evalrun_operator.rush import Rush
from evalrun_operator.status import is_urgent
from evalrun_operator.store import Store
from evalrun_operator.strip import KINDS
from evalrun_operator.usage import settle
from evalrun_operator.work_queue import WorkQueue

Doc = dict[str, Any]
KIND_OF = {
    RUNS: "EvaluationRun",
    JOBS: "Job",
    CONFIG_MAPS: "ConfigMap",
}


class WorldApi:
    """The world as the Executor speaks with it."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def get(self, resource: Resource, namespace: str, name: str) -> Doc:
        try:
            if resource is BENCHMARKS:
                found: Doc = self._world.get("Benchmark", name)["document"]
                return found
            return self._world.get(KIND_OF[resource], name)
        except Missing as error:
            raise api_errors.NotFound("get", 404) from error

    async def create(self, resource: Resource, namespace: str, document: Doc) -> Doc:
        try:
            if resource is EVENTS:
                name = document["involvedObject"]["name"]
                self._world.wrote(f"event {document['reason']} {name}")
                return document
            return self._world.create(KIND_OF[resource], document)
        except Conflict as error:
            raise api_errors.AlreadyExists("create", 409) from error
        except Forbidden as error:
            raise api_errors.Forbidden("create", 403, str(error)) from error
        except LostReply as error:
            raise api_errors.Unavailable("create", 0, "the connection was reset") from error

    async def patch_status(
        self, resource: Resource, namespace: str, name: str, version: str, patch: Doc
    ) -> Doc:
        try:
            run = self._world.get("EvaluationRun", name)
            run["metadata"]["resourceVersion"] = version
            before = run.get("status") or {}
            after = merged(before, patch)
            written = self._world.write_status(run, after, is_urgent(before, after))
            self._world.writes[-1] += f" {name}"
        except Missing as error:
            raise api_errors.NotFound("patch", 404) from error
        except Conflict as error:
            raise api_errors.Conflict("patch", 409) from error
        except LostReply as error:
            raise api_errors.Unavailable("patch", 0, "the connection was reset") from error
        return written

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, version: str
    ) -> Doc:
        try:
            self._world.delete_job(name, uid, version)
        except Missing as error:
            raise api_errors.NotFound("delete", 404) from error
        except Conflict as error:
            raise api_errors.Conflict("delete", 409) from error
        except LostReply as error:
            raise api_errors.Unavailable("delete", 0, "the connection was reset") from error
        return {**self._world.get("Job", name), "kind": "Job"}


class Due:
    """A work queue whose waits end when the fleet says so."""

    def __init__(self) -> None:
        self.now: deque[RunKey] = deque()
        self.later: set[RunKey] = set()

    def add(self, key: RunKey, after: float = 0.0) -> None:
        if after > 0:
            self.later.add(key)
        elif key not in self.now:
            self.now.append(key)


class Fleet:
    """A world of runs and the operator in it, which is started anew when it crashes.

    caps: as in the operator's configuration. looked: names of the runs that were looked at.
    """

    def __init__(self, caps: Doc, **fields: Any) -> None:
        self.world = World(**fields)
        self.config = configuration(caps=caps)
        self.looked: list[str] = []
        self.most: Counter[str] = Counter()
        self.restart()

    def restart(self) -> None:
        """The process ends, and another one reads all there is."""
        self.queue = Due()
        self.store = Store(lambda pod: settle(pod, self.world.now), self._seconds)
        self.gate = Gate(self.store, self.config.caps)
        cluster = cast(Cluster, WorldApi(self.world))
        pacing = Pacing(self.config.progress_seconds, self._seconds)
        executor = Executor(
            cluster, self.store, pacing, lambda: self.world.now, lambda run: None, lambda: False
        )
        self.controller = Controller(
            self.store,
            cast(WorkQueue, self.queue),
            executor,
            reconcile,
            self.config,
            Metrics(),
            Rush(self._seconds, lambda: False),
            now=lambda: self.world.now,
            relisted=lambda: None,
            gate=self.gate,
        )

    def _seconds(self) -> float:
        return self.world.now.timestamp()

    def apply(self, name: str, namespace: str = "team", **spec: Any) -> None:
        """A person applies a run."""
        document = run_document(**spec)
        document["metadata"] |= {"name": name, "namespace": namespace}
        del document["metadata"]["uid"]
        self.world.put("EvaluationRun", document)

    def run(self, name: str) -> Doc:
        return self.world.objects[("EvaluationRun", name)]

    def status(self, name: str) -> Doc:
        found: Doc = self.run(name).get("status") or {}
        return found

    def edit(self, name: str, **spec: Any) -> None:
        run = self.run(name)
        run["spec"] |= spec
        run["metadata"]["generation"] += 1
        self.world.touch(run)

    def work(self) -> None:
        """See all there is, and look at what is due until nothing is."""
        for _ in range(5):
            self._see()
            try:
                asyncio.run(self._drain())
            except Crashed:
                self.world.crash_after = None
                self.restart()
                continue
            return
        raise AssertionError("it crashes for ever")

    def resync(self) -> None:
        """All that is not over is looked at, as after a reading of the cluster."""
        for key in self.store.active():
            self.queue.add(key)

    def tick(self, seconds: float = 5) -> None:
        """The rest of the cluster works, and then the operator."""
        self.world.tick(seconds)
        self.queue.now.extend(self.queue.later)
        self.queue.later.clear()
        self.work()

    def until(self, done: Callable[[], Any], ticks: int = 300) -> None:
        self.work()
        for _ in range(ticks):
            if done():
                return
            self.tick()
        raise AssertionError([(name, self.status(name).get("phase")) for name in self.names()])

    def names(self) -> list[str]:
        return [name for kind, name in self.world.objects if kind == "EvaluationRun"]

    def phases(self) -> Counter[str]:
        return Counter(str(self.status(name).get("phase")) for name in self.names())

    def all_ended(self) -> bool:
        return all(self.status(name).get("completionTime") for name in self.names())

    def at_work(self) -> dict[str, list[str]]:
        """Names of the runs that are truly at work, by namespace."""
        found: dict[str, list[str]] = {}
        for run in self.world.all("EvaluationRun"):
            status, uid = run.get("status") or {}, run["metadata"]["uid"]
            jobs = [job for job in self.world.all("Job") if owner(job, "EvaluationRun") == uid]
            over = (condition(job, "Complete") or condition(job, "Failed") for job in jobs)
            waits = status.get("phase") in ("Suspended", "Queued")
            begun = (status.get("startTime") or jobs) and not waits
            if not status.get("completionTime") and (begun or not all(over)):
                found.setdefault(run["metadata"]["namespace"], []).append(run["metadata"]["name"])
        return found

    def _see(self) -> None:
        for kind in KINDS:
            documents = self.world.all(kind)
            for key in self.store.replace(kind, documents, self.world.version):
                self.queue.add(key)

    async def _drain(self) -> None:
        for _ in range(5_000):
            if not self.queue.now:
                return
            key = self.queue.now.popleft()
            self.looked.append(key.name)
            try:
                again = await self.controller.step(key)
            except Again:
                again = 0.0
            except api_errors.ApiError:
                again = 1.0
            if again is not None:
                self.queue.add(key, after=again)
            for namespace, names in self.at_work().items():
                self.most[namespace] = max(self.most[namespace], len(names))
        raise AssertionError("the operator does not come to rest")
