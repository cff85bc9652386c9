"""The API server as the Executor meets it within one look, with a fault at one of its requests."""

from __future__ import annotations

from dataclasses import dataclass, field

from fake_api import merged
from world import Conflict as Taken

from evalrun_operator.api_errors import AlreadyExists, Conflict, Forbidden, NotFound, Unavailable
from evalrun_operator.decisions import Observed
from evalrun_operator.resources import CONFIG_MAPS, EVENTS, JOBS, PODS, RUNS, Resource
from model_check import properties
from model_check.documents import Doc
from model_check.events import Doing, act
from model_check.states import Draft

KIND_OF = {
    RUNS: "EvaluationRun",
    JOBS: "Job",
    CONFIG_MAPS: "ConfigMap",
    PODS: "Pod",
}


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
    between: Doing | None = None


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
        if resource is EVENTS:
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
        self._exactly(call, uid, version)
        properties.on_delete(self._draft.cluster, call.kind, name)
        self._draft.cluster.remove(call.kind, name)
        self._end(call)
        return {**self._draft.cluster.objects[(call.kind, name)], "kind": "Job"}

    async def patch_pod_status(
        self, namespace: str, name: str, uid: str, version: str, patch: Doc
    ) -> Doc:
        call = self._begin("write status of", PODS, name)
        cluster = self._draft.cluster
        self._exactly(call, uid, version)
        properties.on_given_up(cluster, name)
        before = dict(cluster.objects)
        pod = cluster.own((call.kind, name))
        pod["status"] = {**pod["status"], **patch}
        cluster.touch(pod)
        cluster.tally(before)
        self._end(call)
        return pod

    async def remove_pod(self, namespace: str, name: str, uid: str, version: str) -> None:
        call = self._begin("remove", PODS, name)
        cluster = self._draft.cluster
        self._exactly(call, uid, version)
        properties.on_given_up(cluster, name)
        del cluster.objects[(call.kind, name)]
        self._end(call)

    def _exactly(self, call: Call, uid: str, version: str) -> None:
        metadata = self._find(call)["metadata"]
        if (metadata["uid"], metadata["resourceVersion"]) != (uid, version):
            raise Conflict(call.verb, 409)

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
