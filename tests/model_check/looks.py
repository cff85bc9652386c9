"""One look of the operator at its run: the real Store, reconcile and Executor, between two faults.

The Executor runs as it is, against an API server that lives in the state. It is a coroutine that
nothing here suspends, so a look is one call; each request to the API server is a place at which a
fault may strike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, cast

from world import Conflict as Taken
from world import owner

from evalrun_api.operator_config import OperatorConfig
from evalrun_operator import cluster as api
from evalrun_operator import executor, reconcile
from evalrun_operator.api_errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    NotFound,
    Unavailable,
)
from evalrun_operator.cluster import Resource
from evalrun_operator.decisions import Observed, Plan
from evalrun_operator.pacing import Pacing
from evalrun_operator.strip import KINDS, Kind
from model_check import properties
from model_check.cluster import Cluster
from model_check.documents import NOW, Doc
from model_check.states import KEY, Draft, Memory

KIND_OF = {api.RUNS: "EvaluationRun", api.JOBS: "Job", api.CONFIG_MAPS: "ConfigMap"}

MANY_PLANS = 5_000
"""That are remembered: mostly the same state is looked at again, with another fault."""

Between = Callable[[Cluster], None]


class Killed(BaseException):
    """The operator's process ended here."""


@dataclass(frozen=True)
class Fault:
    """What strikes at a request of a look.

    at: which request. kind: crash (after it), lost reply, no reply (not carried out), refused,
    conflict (somebody writes to the object first), between (the rest of the cluster acts first).
    """

    at: int
    kind: str
    between: Between | None = None


@dataclass
class Call:
    """A request that a look made."""

    verb: str
    kind: str
    name: str
    carried_out: bool = False

    def __str__(self) -> str:
        return f"{self.verb} {self.kind} {self.name}"


@dataclass
class Look:
    """What came of one look. again: seconds until the next one; None for none that is planned."""

    calls: list[Call] = field(default_factory=list)
    again: float | None = None
    outcome: str = "done"

    def __str__(self) -> str:
        told = "; ".join(["the operator looks", *map(str, self.calls)])
        return told if self.outcome == "done" else f"{told} ({self.outcome})"

    @property
    def wrote(self) -> bool:
        return any(call.carried_out for call in self.calls)


HELD = 10.0
"""Seconds for which a write that can wait is held back."""


class Pace:
    """Whether what can wait is written at once, or held back."""

    def __init__(self, *, holds: bool) -> None:
        self._holds = holds

    def wait(self, uid: str, *, is_progress: bool) -> float:
        return HELD if self._holds else 0.0

    def written(self, uid: str) -> None: ...

    def forget(self, uid: str) -> None: ...


class Api:
    """The API server to the Executor, within one look."""

    def __init__(self, draft: Draft, look: Look, fault: Fault | None, observed: Observed) -> None:
        self._draft = draft
        self._look = look
        self._fault = fault
        self._seen = observed.run
        self._known_jobs = list(observed.jobs.values())
        self._dead = False

    async def get(self, resource: Resource, namespace: str, name: str) -> Doc:
        call = self._begin("get", resource, name)
        found = self._draft.cluster.objects.get((call.kind, name))
        if found is None:
            raise NotFound("get", 404)
        return found

    async def create(self, resource: Resource, namespace: str, document: Doc) -> Doc:
        if resource is api.EVENTS:
            if self._dead:
                raise Killed
            return document
        name = document["metadata"]["name"]
        call = self._begin("create", resource, name)
        cluster = self._draft.cluster
        if call.kind in cluster.forbidden:
            raise Forbidden("create", 403, "exceeded quota")
        try:
            created = cluster.put(call.kind, document)
        except Taken as error:
            raise AlreadyExists("create", 409) from error
        properties.on_create(self._seen, cluster, call.kind, name)
        self._end(call)
        return created

    async def patch_status(
        self, resource: Resource, namespace: str, name: str, version: str, patch: Doc
    ) -> Doc:
        call = self._begin("write status of", resource, name)
        cluster = self._draft.cluster
        found = self._find(call)
        if found["metadata"]["resourceVersion"] != version:
            raise Conflict("patch", 409)
        run = cluster.own((call.kind, name))
        before = run.get("status") or {}
        run["status"] = merged(before, patch)
        properties.on_status(cluster.ghost, before, run["status"], self._known_jobs)
        cluster.touch(run)
        self._end(call)
        return run

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, version: str
    ) -> Doc:
        call = self._begin("delete", resource, name)
        metadata = self._find(call)["metadata"]
        if (metadata["uid"], metadata["resourceVersion"]) != (uid, version):
            raise Conflict("delete", 409)
        properties.on_delete(self._draft.cluster, call.kind, name)
        self._draft.cluster.remove(call.kind, name)
        self._end(call)
        return {**self._draft.cluster.objects[(call.kind, name)], "kind": "Job"}

    def _find(self, call: Call) -> Doc:
        found = self._draft.cluster.objects.get((call.kind, call.name))
        if found is None:
            raise NotFound(call.verb, 404)
        return found

    def _begin(self, verb: str, resource: Resource, name: str) -> Call:
        if self._dead:
            raise Killed
        call = Call(verb, KIND_OF[resource], name)
        fault = self._striking()
        self._look.calls.append(call)
        if fault is None:
            return call
        cluster = self._draft.cluster
        if fault.kind == "no reply":
            raise Unavailable(verb, 500, "etcd has no leader")
        if fault.kind == "refused":
            raise Forbidden(verb, 403, "an admission webhook is against it")
        if fault.kind == "conflict" and (call.kind, name) in cluster.objects:
            cluster.annotate((call.kind, name))
        if fault.kind == "between" and fault.between is not None:
            act(self._draft, fault.between)
        return call

    def _striking(self) -> Fault | None:
        fault = self._fault
        return fault if fault is not None and fault.at == len(self._look.calls) else None

    def _end(self, call: Call) -> None:
        call.carried_out = True
        fault = self._fault
        if fault is None or fault.at != len(self._look.calls) - 1:
            return
        if fault.kind == "crash":
            self._dead = True
            raise Killed
        if fault.kind == "lost reply":
            raise Unavailable(call.verb, 0, "the connection was reset")


class Operator:
    """Looks at the run, as the Controller would. It decides once about what it sees often."""

    def __init__(self, config: OperatorConfig) -> None:
        self._config = config
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def look(
        self,
        draft: Draft,
        key: tuple[Any, ...],
        look: Look,
        *,
        fault: Fault | None = None,
        holds: bool = False,
    ) -> None:
        """One look. key: of all that it sees, for `reconcile` is a function of that."""
        memory = draft.memory
        assert memory is not None
        observed = memory.observe(KEY)
        if observed is None:
            return
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) > MANY_PLANS:
                self._plans.clear()
            plan = self._plans[key] = reconcile.reconcile(observed, NOW, self._config)
        look.again = plan.requeue_after
        server = cast(api.Cluster, Api(draft, look, fault, observed))
        pace = cast(Pacing, Pace(holds=holds))
        doer = executor.Executor(server, memory, pace, lambda: NOW, lambda run: None)
        self._run(doer, observed, plan, look)
        if look.outcome == "crashed":
            draft.memory = None
        else:
            repeat(draft)

    @staticmethod
    def _run(doer: executor.Executor, observed: Observed, plan: Plan, look: Look) -> None:
        doing = doer.execute(KEY, observed, plan)
        try:
            doing.send(None)
        except StopIteration as done:
            look.again = done.value
        except executor.Again:
            look.outcome, look.again = "again", 0.0
        except ApiError as error:
            look.outcome, look.again = f"failed: {type(error).__name__}", 0.0
        except Killed:
            look.outcome, look.again = "crashed", None
        finally:
            doing.close()


def act(draft: Draft, doing: Between) -> bool:
    """The rest of the cluster acts, and the operator is told of it, where its watch is not late.

    Returns whether anything has changed.
    """
    cluster = draft.cluster
    before = dict(cluster.objects)
    doing(cluster)
    objects = cluster.objects
    changed = {kind for kind, _ in before.keys() - objects.keys()}
    for key, document in objects.items():
        known = before.get(key)
        if known is document:
            continue
        if known is not None and _version(known) == _version(document):
            objects[key] = known  # it was looked at with intent to change it
        else:
            changed.add(key[0])
    if not changed:
        return False
    cluster.tally(before)
    for key in objects.keys() - before.keys():
        if key[0] == "Pod":
            uid = owner(objects[key], "Job")
            for job in properties.jobs_of_the_run(objects):
                if job["metadata"]["uid"] == uid:
                    properties.on_pods(cluster, job)
    if draft.memory is not None:
        for kind in KINDS:
            if kind in changed and draft.caches[kind] is None:
                tell(draft.memory, kind, before, objects)
    return True


def _version(document: Doc) -> tuple[str, str]:
    metadata = document["metadata"]
    return metadata["uid"], metadata["resourceVersion"]


def tell(
    memory: Memory,
    kind: Kind,
    before: dict[tuple[str, str], Doc],
    after: dict[tuple[str, str], Doc],
) -> None:
    """Events about what changed, each followed by the one before it, once more and too late."""
    for key, document in before.items():
        if key[0] == kind and after.get(key) is not document:
            found = after.get(key)
            if found is None or found["metadata"]["uid"] != document["metadata"]["uid"]:
                memory.forget(kind, document)
    for key, document in after.items():
        if key[0] == kind and before.get(key) is not document:
            memory.put(kind, document)
    for key, document in before.items():
        if key[0] == kind and after.get(key) is not document:
            memory.put(kind, document)


def repeat(draft: Draft) -> None:
    """A cache that is late tells once more of all that it holds, after the operator has written."""
    assert draft.memory is not None
    for kind, cache in draft.caches.items():
        for entry in cache or ():
            draft.memory.put(kind, entry.doc)


def relist(memory: Memory, kind: Kind, documents: Collection[Doc]) -> None:
    """The operator reads a whole list of a kind."""
    version = max((int(d["metadata"]["resourceVersion"]) for d in documents), default=0)
    memory.replace(kind, documents, version)


def merged(document: Doc, patch: Doc) -> Doc:
    """A document after an RFC 7396 patch; what is unchanged is shared."""
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
