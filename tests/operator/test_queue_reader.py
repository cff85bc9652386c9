"""Why Jobs wait is asked for rarely, and about all of them at once; what is answered is doubted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from objects import Doc, job, run

from evalrun_operator.api_errors import ApiError, Forbidden, Unavailable
from evalrun_operator.cluster import Cluster
from evalrun_operator.decisions import Ledger, RunKey, Word
from evalrun_operator.kueue import ABSENT, SILENT, word_of
from evalrun_operator.queue_reader import PAUSE, TOGETHER, QueueReader
from evalrun_operator.resources import Resource
from evalrun_operator.store import Store
from evalrun_operator.work_queue import WorkQueue

pytestmark = pytest.mark.decisions

KEY = RunKey("team", "one")
JOB_UID = "kueue.x-k8s.io/job-uid"


def waiting_job(number: int = 0, **changes: Any) -> Doc:
    document = job(name=f"job-{number}", uid=f"uid-{number}", version=10 + number, **changes)
    document["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpu"
    document["spec"]["suspend"] = True
    return document


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Doc:
    return {"type": kind, "status": status, "reason": reason, "message": message}


NO_QUOTA = condition("QuotaReserved", "False", "Pending", "insufficient unused quota")


def workload(number: int, *conditions: Doc, owner: str | None = None, **spec: Any) -> Doc:
    uid = f"uid-{number}"
    reference = {"kind": "Job", "controller": True, "uid": owner or uid}
    return {
        "metadata": {
            "name": f"job-job-{number}",
            "namespace": "team",
            "labels": {JOB_UID: uid},
            "ownerReferences": [reference],
        },
        "spec": spec,
        "status": {"conditions": list(conditions)},
    }


class Kueue:
    """An API server with Workloads, as far as it is asked about them."""

    def __init__(self) -> None:
        self.workloads: list[Doc] = []
        self.lists: list[list[str]] = []
        self.namespaces: list[str] = []
        self.looks = 0
        self.fault: ApiError | None = None
        self.installed = True

    async def get(self, resource: Resource, namespace: str, name: str) -> Doc:
        assert f"{resource.base}/{resource.plural}" == "/apis"
        self.looks += 1
        version = {"groupVersion": "kueue.x-k8s.io/v1beta2"}
        found = [{"name": "kueue.x-k8s.io", "preferredVersion": version}] * self.installed
        return {
            "groups": [{"name": "apps", "preferredVersion": {"groupVersion": "apps/v1"}}, *found]
        }

    async def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[Any]:
        assert resource.base == "/apis/kueue.x-k8s.io/v1beta2"
        label, _, uids = resource.selector.partition(" in ")
        assert label == JOB_UID
        asked = uids.strip("()").split(",")
        self.lists.append(asked)
        self.namespaces.append(namespace)
        if self.fault is not None:
            raise self.fault
        found = [one for one in self.workloads if one["metadata"]["labels"][JOB_UID] in asked]
        yield found[:1], 1
        yield found[1:], 1


class Bench:
    """A Store with a run, and a reader in a time of its own."""

    def __init__(self, *, namespaces: tuple[str, ...] = ()) -> None:
        self.time = 1000.0
        self.kueue = Kueue()
        self.store = Store(lambda pod: Ledger(), lambda: self.time)
        self.store.put("EvaluationRun", run())
        self.queue = WorkQueue(lambda: self.time, lambda: 0.5)
        self.reader = QueueReader(
            cast(Cluster, self.kueue),
            self.store.waiting,
            self.queue,
            namespaces=namespaces,
            clock=lambda: self.time,
            beat=lambda: None,
        )

    def put(self, count: int) -> None:
        for number in range(count):
            self.store.put("Job", waiting_job(number))

    def ask(self, seconds: float = 0.0) -> None:
        """As the reader does it by itself for so long."""
        end = self.time + seconds
        while True:
            asyncio.run(self.reader.ask())
            if self.time >= end:
                return
            self.time += PAUSE

    def word(self, number: int = 0) -> Word | None:
        return self.store.waiting.words([f"uid-{number}"]).get(f"uid-{number}")


def test_nothing_is_asked_while_no_job_waits() -> None:
    bench = Bench()
    begun = waiting_job()
    begun["spec"]["suspend"] = False
    unqueued = waiting_job(1)
    del unqueued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    for document in (begun, unqueued, waiting_job(2, deletionTimestamp="2026-01-01T00:00:00Z")):
        bench.store.put("Job", document)
    bench.ask(3600)
    assert (bench.kueue.lists, bench.kueue.looks) == ([], 0)


@pytest.mark.parametrize(("count", "most"), [(1, 3), (100, 3), (1000, 21)])
def test_a_minute_of_waiting_costs_few_lists_however_many_jobs_wait(count: int, most: int) -> None:
    bench = Bench()
    bench.put(count)
    bench.kueue.workloads = [workload(number, NO_QUOTA) for number in range(count)]
    bench.ask(60)  # all are heard of
    assert all(bench.word(number) for number in range(count))
    bench.kueue.lists.clear()
    bench.ask(60)
    assert 0 < len(bench.kueue.lists) <= most
    assert max(len(asked) for asked in bench.kueue.lists) <= TOGETHER
    assert {uid for asked in bench.kueue.lists for uid in asked} == {
        f"uid-{number}" for number in range(count)
    }
    assert bench.kueue.looks == 1


def test_a_word_wakes_its_run_once_and_is_forgotten_when_the_job_begins() -> None:
    bench = Bench()
    bench.put(1)
    bench.kueue.workloads = [workload(0, NO_QUOTA)]
    bench.ask(120)
    assert bench.queue.depth == 1
    found = bench.store.observe(KEY)
    assert found is not None
    assert found.words == {"uid-0": Word("Pending", "insufficient unused quota")}
    begun = waiting_job()
    begun["spec"]["suspend"] = False
    begun["metadata"]["resourceVersion"] = "99"
    bench.store.put("Job", begun)
    assert bench.word() is None
    lists = len(bench.kueue.lists)
    bench.ask(120)
    assert len(bench.kueue.lists) == lists


def test_jobs_of_a_run_that_has_ended_are_not_asked_about() -> None:
    bench = Bench()
    bench.put(1)
    bench.store.put("EvaluationRun", run(version=90, completionTime="2026-01-01T00:00:00Z"))
    bench.ask(60)
    assert bench.kueue.lists == []


def test_a_cluster_without_kueue_is_told_of_and_looked_at_again() -> None:
    bench = Bench()
    bench.kueue.installed = False
    bench.put(3)
    bench.ask(600)
    assert [bench.word(number) for number in range(3)] == [ABSENT] * 3
    assert bench.kueue.lists == []
    assert bench.kueue.looks <= 25
    bench.kueue.installed = True
    bench.kueue.workloads = [workload(0, NO_QUOTA)]
    bench.ask(60)
    assert bench.word() == Word("Pending", "insufficient unused quota")


def test_kueue_that_makes_no_workload_is_told_of_only_after_a_while() -> None:
    bench = Bench()
    bench.put(1)
    bench.ask(20)
    assert bench.word() is None
    bench.ask(60)
    assert bench.word() == SILENT


def test_a_workload_that_cannot_be_read_is_told_of_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.put(1)
    bench.kueue.fault = Forbidden("list workloads", 403, "not allowed")
    bench.ask(600)
    found = bench.word()
    assert found is not None
    assert found.meaning == "Unreadable"
    assert len(caplog.records) == 1


def test_another_version_of_kueue_is_found_when_the_old_one_goes() -> None:
    bench = Bench()
    bench.put(1)
    bench.ask()
    bench.kueue.fault = Unavailable("list workloads", 404, "404 page not found")
    bench.ask(10)
    bench.kueue.fault = None
    bench.kueue.workloads = [workload(0, NO_QUOTA)]
    bench.ask(60)
    assert bench.word() == Word("Pending", "insufficient unused quota")
    assert bench.kueue.looks >= 2


def test_a_workload_of_somebody_elses_job_says_nothing_about_ours() -> None:
    bench = Bench()
    bench.put(1)
    forged = workload(0, condition("QuotaReserved", "False", "Inadmissible", "no"), owner="uid-9")
    bench.kueue.workloads = [forged]
    bench.ask(5)
    assert bench.word() is None


def test_an_operator_of_some_namespaces_asks_in_those_alone() -> None:
    bench = Bench(namespaces=("team", "other"))
    bench.put(2)
    bench.ask(10)
    assert set(bench.kueue.namespaces) == {"team"}


QUOTA = condition("QuotaReserved", "True")
LOST = condition("Evicted", "True", "Preempted", "Preempted to accommodate a workload")


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (workload(0), None),
        (workload(0, NO_QUOTA), Word("Pending", "insufficient unused quota")),
        (workload(0, QUOTA, condition("Admitted", "True")), None),
        (workload(0, QUOTA), Word("Pending", "its quota is reserved")),
        (
            workload(0, LOST, NO_QUOTA),
            Word(
                "Evicted",
                "Preempted to accommodate a workload; insufficient unused quota",
                "Preempted",
            ),
        ),
        (
            workload(0, LOST, LOST | {"type": "QuotaReserved", "status": "False"}),
            Word("Evicted", "Preempted to accommodate a workload", "Preempted"),
        ),
        (
            workload(
                0, condition("QuotaReserved", "False", "Inadmissible", "LocalQueue a is gone")
            ),
            Word("Unusable", "LocalQueue a is gone"),
        ),
        (
            workload(0, condition("Evicted", "True", "Deactivated", "too often"), active=False),
            Word("Unusable", "its Workload job-job-0 is deactivated (spec.active) (too often)"),
        ),
        (
            workload(0, condition("Evicted", "True", "a\nb", "x\x00y"), NO_QUOTA),
            Word("Evicted", "x y; insufficient unused quota", "Evicted"),
        ),
    ],
)
def test_a_workloads_conditions_are_put_into_a_word(document: Doc, word: Word | None) -> None:
    assert word_of(document) == word


def test_admission_checks_that_are_not_done_are_named() -> None:
    document = workload(0, QUOTA)
    document["status"]["admissionChecks"] = [
        {"name": "done", "state": "Ready"},
        {"name": "nodes", "state": "Pending", "message": "asked for two"},
    ]
    found = word_of(document)
    assert found is not None
    assert found.text == "its quota is reserved; admission checks: nodes: asked for two"
