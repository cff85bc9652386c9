"""An operator's process in the world: what it has seen, what it remembers, and how it acts.

It does with a Plan what the executor does, in the same order: creates, the status, deletes, events,
lost pods.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from world import Conflict, Forbidden, LostReply, Missing, World, owner

from evalrun_api.benchmark import Benchmark
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.progress import Progress
from evalrun_operator.decisions import (
    CreateConfigMap,
    CreateJob,
    DeleteJob,
    FailPod,
    Ledger,
    Observed,
    Plan,
    ReadBenchmarks,
    ReadSnapshot,
    RemovePod,
    Snapshot,
    Word,
)
from evalrun_operator.reconcile import reconcile
from evalrun_operator.snapshot import read_config_map
from evalrun_operator.usage import settle

Doc = dict[str, Any]
KINDS = ("EvaluationRun", "Job", "Pod")


@dataclass
class Process:
    """One life of the operator.

    seen: objects by kind and name as they were last seen; what this process wrote itself is there
    at once. Everything here is lost when the process ends.
    """

    world: World
    config: OperatorConfig
    seen: dict[str, dict[str, Doc]] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    snapshot_absent: bool = False
    benchmarks: dict[str, Benchmark | None] = field(default_factory=dict)
    conflicts: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    gone: Ledger = field(default_factory=Ledger)
    words: dict[str, Word] = field(default_factory=dict)
    doubt: tuple[Doc, Ledger] | None = None
    written_at: datetime | None = None
    steps: int = 0

    def see(self, kinds: Iterable[str] = KINDS) -> None:
        """Learn how the objects of these kinds are now."""
        for kind in kinds:
            before = self.seen.get(kind, {})
            found = {
                document["metadata"]["name"]: self._copy(before, document)
                for document in self.world.all(kind)
            }
            if kind == "Pod":
                uids = {pod["metadata"]["uid"] for pod in found.values()}
                for pod in before.values():
                    uid = pod["metadata"]["uid"]
                    if uid not in uids:
                        self.progress.pop(uid, None)
                        left = settle(pod, self.world.now)
                        self.gone = self.gone.plus(left)
            self.seen[kind] = found
            if kind == "EvaluationRun":
                self._resolve()

    @staticmethod
    def _copy(before: dict[str, Doc], document: Doc) -> Doc:
        known = before.get(document["metadata"]["name"])
        version = document["metadata"]["resourceVersion"]
        if known is not None and known["metadata"]["resourceVersion"] == version:
            return known
        return copy.deepcopy(document)

    def _resolve(self) -> None:
        if self.doubt is None:
            return
        status, contained = self.doubt
        self.doubt = None
        for run in self.seen["EvaluationRun"].values():
            if (run.get("status") or {}).get("gonePods") == status.get("gonePods"):
                self.gone = self.gone.minus(contained)

    def observe(self) -> Observed | None:
        run = next(iter(self.seen["EvaluationRun"].values()), None)
        if run is None:
            return None
        uid = run["metadata"]["uid"]
        jobs = {
            name: job
            for name, job in self.seen["Job"].items()
            if owner(job, "EvaluationRun") == uid
        }
        uids = {job["metadata"]["uid"] for job in jobs.values()}
        return Observed(
            run=run,
            jobs=jobs,
            pods=tuple(pod for pod in self.seen["Pod"].values() if owner(pod, "Job") in uids),
            progress=dict(self.progress),
            snapshot=self.snapshot,
            snapshot_absent=self.snapshot_absent,
            benchmarks=dict(self.benchmarks),
            conflicts=frozenset(self.conflicts),
            refused=dict(self.refused),
            gone=self.gone,
            words=dict(self.words),
        )

    def decide(self) -> Plan | None:
        observed = self.observe()
        return reconcile(observed, self.world.now, self.config) if observed else None

    def step(self, kinds: Iterable[str] = KINDS) -> bool:
        """See, decide, do. Whether there is more to do at once."""
        self.see(kinds)
        self.steps += 1
        observed = self.observe()
        if observed is None:
            return False
        plan = reconcile(observed, self.world.now, self.config)
        try:
            return self._do(observed, plan)
        except (Conflict, Missing, LostReply):
            self.see()
            return True
        except Forbidden:
            return False  # the queue tries again, ever more rarely

    def work(self, kinds: Iterable[str] = KINDS) -> None:
        """Until there is nothing to do at once."""
        for _ in range(20):
            if not self.step(kinds):
                return
        raise AssertionError("the operator does not come to rest")

    def _do(self, observed: Observed, plan: Plan) -> bool:
        learnt = False
        for action in plan.actions:
            match action:
                case ReadSnapshot(name):
                    self._read(name)
                    learnt = True
                case ReadBenchmarks(names):
                    for name in names:
                        self.benchmarks[name] = self._benchmark(name)
                    learnt = True
                case CreateConfigMap(document):
                    if not self._create(observed.run, "ConfigMap", document):
                        return True
                    self.snapshot = read_config_map(document)
                case CreateJob(document):
                    if not self._create(observed.run, "Job", document):
                        return True
        deletes = [action for action in plan.actions if isinstance(action, DeleteJob)]
        ended = False
        if plan.status is not None and self._may_write(plan.urgent or bool(deletes)):
            self._write(observed, plan)
            ended = bool(plan.status.get("completionTime"))
        for delete in deletes:
            version = observed.jobs[delete.name]["metadata"]["resourceVersion"]
            self.world.delete_job(delete.name, delete.uid, version)
        for event in plan.events if plan.status is not None else ():
            self.world.wrote(f"event {event.reason}")
        for action in plan.actions:
            match action:
                case FailPod(name, uid, version, status):
                    self.world.fail_pod(name, uid, version, status)
                    learnt = True
                case RemovePod(name, uid, version):
                    self.world.remove_pod(name, uid, version)
                    learnt = True
        return learnt or (ended and not (observed.run.get("status") or {}).get("completionTime"))

    def _create(self, run: Doc, kind: str, document: Doc) -> bool:
        name = document["metadata"]["name"]
        try:
            created = self.world.create(kind, document)
        except Conflict:
            existing = self.world.get(kind, name)
            if existing["metadata"].get("deletionTimestamp"):
                raise
            if owner(existing, "EvaluationRun") != run["metadata"]["uid"]:
                self.conflicts.add(f"{kind.lower()}/{name}")
                raise
            if kind == "ConfigMap":
                self.snapshot = read_config_map(existing)
            else:
                self.seen["Job"][name] = existing
            return False
        except Forbidden as error:
            self.refused[f"{kind.lower()}/{name}"] = str(error)
            raise
        self.refused.pop(f"{kind.lower()}/{name}", None)
        if kind == "Job":
            self.seen["Job"][name] = created
        return True

    def _read(self, name: str) -> None:
        try:
            self.snapshot = read_config_map(self.world.get("ConfigMap", name))
        except Missing:
            self.snapshot_absent = True

    def _benchmark(self, name: str) -> Benchmark | None:
        try:
            return Benchmark.model_validate(self.world.get("Benchmark", name)["document"])
        except Missing:
            return None

    def _may_write(self, urgent: bool) -> bool:
        if urgent or self.written_at is None:
            return True
        passed = (self.world.now - self.written_at).total_seconds()
        return passed >= self.config.progress_seconds

    def _write(self, observed: Observed, plan: Plan) -> None:
        assert plan.status is not None
        try:
            written = self.world.write_status(observed.run, plan.status, plan.urgent)
        except LostReply:
            self.doubt = (plan.status, observed.gone)
            raise
        self.written_at = self.world.now
        self.gone = self.gone.minus(observed.gone)
        self.seen["EvaluationRun"][written["metadata"]["name"]] = written
