"""A Plan is carried out in order, and whatever the API server answers leads on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from fake_api import FakeApi
from objects import Doc, job, pod, run
from world_documents import configuration, run_document

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_operator import executor as executors
from evalrun_operator import parsing
from evalrun_operator.admission import admit, read_run
from evalrun_operator.api_errors import ApiError, Conflict, Forbidden, Invalid, Unavailable
from evalrun_operator.cluster import Cluster
from evalrun_operator.decisions import (
    CreateConfigMap,
    CreateJob,
    DeleteJob,
    Event,
    Ledger,
    Observed,
    Plan,
    ReadBenchmarks,
    ReadSnapshot,
    RunKey,
    Snapshot,
)
from evalrun_operator.executor import Again, Executor
from evalrun_operator.notes import MANY_FAILURES
from evalrun_operator.pacing import Pacing
from evalrun_operator.store import Store

pytestmark = pytest.mark.decisions

KEY = RunKey("team", "one")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SNAPSHOT, _ = admit(read_run(run_document()), "uid-1", {}, configuration())
WORKING = {"phase": "Answering"}


class Bench:
    """A Store, an API server and an Executor, with one run in both."""

    def __init__(self, reading: float = 0.0) -> None:
        self.time = 0.0
        self.rush = False
        self.api = FakeApi()
        self.store = Store(lambda pod: Ledger(failures=1), lambda: self.time)
        self.store.put("EvaluationRun", self.api.add("evaluationruns", run()))
        self.finished: list[Doc] = []
        self.executor = Executor(
            cast(Cluster, self.api),
            self.store,
            Pacing(30.0, lambda: self.time, reading),
            lambda: NOW,
            self.finished.append,
            lambda: self.rush,
        )

    @property
    def observed(self) -> Observed:
        found = self.store.observe(KEY)
        assert found is not None
        return found

    def do(self, *actions: Any, **rest: Any) -> float | None:
        plan = Plan(actions=actions, **rest)
        return asyncio.run(self.executor.execute(KEY, self.observed, plan))

    def with_job(self) -> Doc:
        added = self.api.add("jobs", job())
        self.store.put("Job", added)
        return added


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(executors, "read_config_map", lambda document: SNAPSHOT)
    return Bench()


def fresh_job() -> Doc:
    document = job()
    del document["metadata"]["uid"]
    return document


def config_map(owner: str = "run-1") -> Doc:
    document = job("one-plan", owner=owner)
    del document["metadata"]["uid"]
    return document


def test_creates_come_first_then_the_status_then_deletes_then_events(bench: Bench) -> None:
    old = bench.api.add("jobs", job("one-old", "job-0"))
    bench.store.put("Job", old)
    bench.do(
        DeleteJob("one-old", "job-0"),
        CreateJob(fresh_job()),
        status=WORKING,
        urgent=True,
        events=(Event("Normal", "Answering", "at work"),),
    )
    assert [entry.rsplit(" ", 1)[0] for entry in bench.api.writes()] == [
        "create jobs",
        "patch evaluationruns",
        "delete jobs",
        "create events",
    ]


def test_while_others_wait_a_run_gets_its_first_job_and_is_told_of_it_later(bench: Bench) -> None:
    bench.rush = True
    again = bench.do(CreateJob(fresh_job()), status=WORKING, urgent=True, requeue_after=600.0)
    assert again == 2.0
    assert bench.api.writes() == ["create jobs one-answer"]
    bench.do(status=WORKING, urgent=True, events=(Event("Normal", "Answering", "at work"),))
    assert [entry.rsplit(" ", 1)[0] for entry in bench.api.writes()[1:]] == [
        "patch evaluationruns",
        "create events",
    ]


def test_in_a_rush_the_plan_is_kept_with_the_status_and_nothing_is_read_for_it(
    bench: Bench,
) -> None:
    bench.rush = True
    bench.do(CreateJob(fresh_job()), CreateConfigMap(config_map()), status=WORKING, urgent=True)
    assert bench.api.writes() == ["create jobs one-answer"]
    assert bench.observed.snapshot_absent
    bench.rush = False
    bench.do(CreateConfigMap(config_map()), status=WORKING, urgent=True)
    assert [entry.rsplit(" ", 1)[0] for entry in bench.api.writes()[1:]] == [
        "create configmaps",
        "patch evaluationruns",
    ]


def test_however_many_wait_a_run_that_was_told_of_before_is_told_of_at_once(bench: Bench) -> None:
    bench.do(status={"phase": "Preparing"}, urgent=True)
    bench.rush = True
    bench.do(CreateJob(fresh_job()), status=WORKING, urgent=True)
    assert bench.observed.run["status"] == WORKING


def test_however_many_wait_what_is_to_be_deleted_is_deleted_at_once(bench: Bench) -> None:
    old = bench.api.add("jobs", job("one-old", "job-0"))
    bench.store.put("Job", old)
    bench.rush = True
    bench.do(CreateJob(fresh_job()), DeleteJob("one-old", "job-0"), status=WORKING, urgent=True)
    assert "delete jobs one-old" in bench.api.writes()


def test_what_was_written_is_known_at_once(bench: Bench) -> None:
    bench.do(CreateJob(fresh_job()), status=WORKING, urgent=True)
    assert list(bench.observed.jobs) == ["one-answer"]
    assert bench.observed.run["status"] == WORKING


def test_only_the_difference_is_sent_and_nothing_for_none(bench: Bench) -> None:
    bench.do(status={"phase": "Answering", "step": "Answer"}, urgent=True)
    bench.do(status={"phase": "Scoring", "step": "Answer"}, urgent=True)
    bench.do(status={"phase": "Scoring", "step": "Answer"}, urgent=True)
    assert bench.api.patches[1:] == [{"phase": "Scoring"}]


def test_progress_waits_for_its_budget(bench: Bench) -> None:
    def progress(percent: int) -> float | None:
        return bench.do(status={**WORKING, "progress": {"requestsDone": percent}})

    assert progress(1) is None  # the first is free
    bench.time = 10
    assert progress(2) == 20
    assert len(bench.api.patches) == 1
    bench.time = 30
    assert progress(3) is None
    assert len(bench.api.patches) == 2


def test_progress_that_waited_is_written_with_the_next_reading() -> None:
    bench = Bench(reading=12.0)

    def progress(percent: int) -> float | None:
        return bench.do(status={**WORKING, "progress": {"requestsDone": percent}})

    progress(1)
    bench.time = 10
    assert progress(2) == 32  # unless a reading comes first
    bench.time = 31
    assert progress(3) is None
    assert bench.api.patches[-1] == {"progress": {"requestsDone": 3}}


def test_what_is_urgent_is_written_at_once_and_carries_the_progress(bench: Bench) -> None:
    bench.do(status=WORKING)
    bench.do(status={**WORKING, "progress": {"requestsDone": 1}})
    bench.time = 1
    bench.do(status={"phase": "Scoring", "progress": {"requestsDone": 100}}, urgent=True)
    assert len(bench.api.patches) == 3
    bench.time = 2
    assert bench.do(status={"phase": "Scoring", "progress": {"requestsDone": 101}}) == 58


def test_mishaps_are_told_at_once_and_paid_for_with_progress(bench: Bench) -> None:
    bench.do(status=WORKING, urgent=True)
    for second, stalled in enumerate([True, False] * 3):
        bench.time = second
        status = {**WORKING, "conditions": [{"type": "Stalled", "status": stalled}]}
        bench.do(status=status, urgent=True, charged=True)
    assert len(bench.api.patches) == 7
    bench.time = 25
    assert bench.do(status={**WORKING, "progress": {"requestsDone": 1}}) == 70


def test_an_event_is_posted_only_with_a_status_and_once(bench: Bench) -> None:
    event = Event("Normal", "Answering", "at work")
    bench.do(status=WORKING, urgent=True, events=(event,))
    bench.do(status=WORKING, urgent=True, events=(event,))
    assert sum("events" in entry for entry in bench.api.writes()) == 1


def test_an_event_that_cannot_be_posted_stops_nothing(bench: Bench) -> None:
    bench.api.fail_before[("create", "events")] = [Forbidden("create", 403, "no")]
    bench.do(status=WORKING, urgent=True, events=(Event("Normal", "A", "b"),))
    assert bench.observed.run["status"] == WORKING


def test_a_job_that_is_there_already_and_ours_is_looked_at_before_more_is_said(
    bench: Bench,
) -> None:
    bench.api.add("jobs", job())
    with pytest.raises(Again):
        bench.do(CreateJob(fresh_job()), status=WORKING, urgent=True)
    assert list(bench.observed.jobs) == ["one-answer"]
    assert not bench.api.patches


def listed_only(bench: Bench) -> None:
    """The run as a process knows it that has read its first list and nothing else."""
    bench.store.gone("EvaluationRun", "run-1")
    found = bench.api.objects[("evaluationruns", "team", "one")]
    bench.store.put("EvaluationRun", found, listed=bench.api.version + 1, first_hand=False)


def test_a_run_that_only_a_first_list_told_of_is_asked_for_once_before_its_job(
    bench: Bench,
) -> None:
    listed_only(bench)
    bench.do(CreateJob(fresh_job()))
    second = fresh_job()
    second["metadata"]["name"] = "one-score"
    bench.do(CreateJob(second))
    asked = [call for call in bench.api.requests if call[0] in ("get", "create")]
    assert asked == [
        ("get", "evaluationruns", "one"),
        ("create", "jobs", "one-answer"),
        ("create", "jobs", "one-score"),
    ]


def test_a_run_that_has_ended_since_the_list_was_taken_gets_no_job(bench: Bench) -> None:
    listed_only(bench)
    ended = run(completionTime="2026-01-01T00:00:00Z")
    bench.api.add("evaluationruns", ended)
    with pytest.raises(Again):
        bench.do(CreateJob(fresh_job()), status=WORKING, urgent=True)
    assert bench.observed.run["status"] == ended["status"]
    assert bench.api.writes() == []


def test_of_a_run_that_was_deleted_since_the_list_was_taken_nothing_is_made(bench: Bench) -> None:
    listed_only(bench)
    del bench.api.objects[("evaluationruns", "team", "one")]
    with pytest.raises(Again):
        bench.do(CreateConfigMap(config_map()), CreateJob(fresh_job()))
    assert bench.store.observe(KEY) is None
    assert bench.api.writes() == []


def test_a_job_that_has_gone_is_not_made_again_for_a_run_that_has_gone_too(bench: Bench) -> None:
    gone = bench.with_job()
    bench.api.remove("jobs", "team", "one-answer")
    bench.api.remove("evaluationruns", "team", "one")
    bench.store.forget("Job", gone)  # its watch was first
    with pytest.raises(Again):
        bench.do(CreateJob(fresh_job()), status=WORKING, urgent=True)
    assert bench.api.writes() == []
    assert bench.store.observe(KEY) is None


def test_a_job_that_a_person_deleted_is_made_again(bench: Bench) -> None:
    gone = bench.with_job()
    bench.api.remove("jobs", "team", "one-answer")
    bench.store.forget("Job", gone)
    bench.do(CreateJob(fresh_job()))
    assert bench.api.requests == [
        ("get", "evaluationruns", "one"),
        ("create", "jobs", "one-answer"),
    ]


def test_an_event_of_the_past_does_not_vouch_for_a_run_whose_job_has_gone(bench: Bench) -> None:
    gone = bench.with_job()
    edited = bench.api.add("evaluationruns", run(phase="Answering"))
    bench.api.remove("evaluationruns", "team", "one")
    bench.store.forget("Job", gone)
    bench.store.put("EvaluationRun", edited)  # its end is still on the way
    with pytest.raises(Again):
        bench.do(CreateJob(fresh_job()))
    assert bench.api.writes() == []


def test_a_run_that_could_not_be_asked_for_is_asked_for_at_the_next_look(bench: Bench) -> None:
    listed_only(bench)
    bench.api.fail_before[("get", "evaluationruns")] = [Unavailable("get", 503)]
    with pytest.raises(Unavailable):
        bench.do(CreateJob(fresh_job()))
    assert bench.store.is_second_hand("run-1")
    assert bench.api.writes() == []


def test_a_job_that_goes_while_its_run_is_asked_for_has_it_asked_for_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed_only(bench)
    gone = bench.with_job()
    get = bench.api.get

    async def slow(*arguments: Any) -> Doc:
        found = await get(*arguments)
        bench.store.forget("Job", gone)
        return found

    monkeypatch.setattr(bench.api, "get", slow)
    with pytest.raises(Again):
        bench.do(CreateJob(fresh_job()))
    assert bench.store.is_second_hand("run-1")
    assert bench.api.writes() == []


def test_a_strangers_job_is_a_conflict(bench: Bench) -> None:
    stranger = job()
    stranger["metadata"]["ownerReferences"] = []
    bench.api.add("jobs", stranger)
    with pytest.raises(Again):
        bench.do(CreateJob(fresh_job()), status=WORKING, urgent=True)
    assert bench.observed.conflicts == {"job/one-answer"}
    assert not bench.api.patches


@pytest.mark.parametrize(
    "leftover",
    [
        lambda: job(deletionTimestamp="2026-01-01T00:00:00Z"),
        lambda: job(owner="run-0"),  # of a run of the same name, to be collected
    ],
)
def test_what_is_going_away_is_waited_for(bench: Bench, leftover: Callable[[], Doc]) -> None:
    bench.api.add("jobs", leftover())
    with pytest.raises(Unavailable, match="is being deleted"):
        bench.do(CreateJob(fresh_job()), status=WORKING, urgent=True)
    assert not bench.observed.conflicts
    assert not bench.api.patches


def test_what_the_server_refuses_is_remembered_with_its_words(bench: Bench) -> None:
    bench.api.fail_before[("create", "jobs")] = [Forbidden("create", 403, "exceeded quota")]
    with pytest.raises(Forbidden):
        bench.do(CreateJob(fresh_job()))
    assert bench.observed.refused == {"job/one-answer": "exceeded quota"}
    bench.do(CreateJob(fresh_job()))
    assert bench.observed.refused == {}


@pytest.mark.parametrize(("code", "told"), [(500, True), (503, True), (0, False), (429, False)])
def test_a_webhook_that_stays_down_is_told_after_some_tries(
    bench: Bench, code: int, told: bool
) -> None:
    error = Unavailable("create", code, "failed calling webhook")
    bench.api.fail_before[("create", "jobs")] = [error] * MANY_FAILURES
    for _ in range(MANY_FAILURES):
        assert bench.observed.refused == {}
        with pytest.raises(Unavailable):
            bench.do(CreateJob(fresh_job()))
    assert bench.observed.refused == ({"job/one-answer": "failed calling webhook"} if told else {})
    bench.do(CreateJob(fresh_job()))
    assert bench.observed.refused == {}


def test_a_predecessors_job_that_does_not_go_is_told_after_some_tries(bench: Bench) -> None:
    bench.api.add("jobs", job(owner="run-0"))
    for _ in range(MANY_FAILURES):
        assert bench.observed.refused == {}
        with pytest.raises(Unavailable):
            bench.do(CreateJob(fresh_job()))
    assert "is being deleted" in bench.observed.refused["job/one-answer"]


def test_a_delete_that_is_refused_is_remembered_until_it_is_not(bench: Bench) -> None:
    bench.with_job()
    bench.api.fail_before[("delete", "jobs")] = [Forbidden("delete", 403, "no")]
    with pytest.raises(Forbidden):
        bench.do(DeleteJob("one-answer", "job-1"))
    assert bench.observed.refused == {"delete job/one-answer": "no"}
    bench.do(DeleteJob("one-answer", "job-1"))
    assert bench.observed.refused == {}


def test_a_status_that_is_refused_is_told_by_one_event(bench: Bench) -> None:
    bench.api.fail_before[("patch", "evaluationruns")] = [Invalid("patch", 422, "phase")] * 3
    for _ in range(3):
        with pytest.raises(Invalid):
            bench.do(status=WORKING, urgent=True)
    assert sum("events" in entry for entry in bench.api.writes()) == 1
    bench.do(status=WORKING, urgent=True)
    assert bench.observed.refused == {}


def test_a_config_map_that_holds_no_plan_is_remembered_and_looked_at_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(document: Doc) -> Snapshot:
        raise fail(reasons.CORRUPT_STORE, "configmap team/one-plan", "damaged", "Delete it")

    bench.api.add("configmaps", config_map())
    with monkeypatch.context() as patched:
        patched.setattr(executors, "read_config_map", damaged)
        for action in (ReadSnapshot("one-plan"), CreateConfigMap(config_map())):
            with pytest.raises(Again):
                bench.do(action)
    assert "damaged" in bench.observed.refused["content of configmap/one-plan"]
    bench.do(ReadSnapshot("one-plan"))
    assert bench.observed.refused == {}


@pytest.mark.parametrize("labels", [{}, {"lmms-eval.io/run": "another"}])
def test_a_job_of_the_run_that_the_watch_does_not_show_is_a_conflict(
    bench: Bench, labels: dict[str, str]
) -> None:
    bench.api.add("jobs", job(labels=labels))
    with pytest.raises(Again):
        bench.do(CreateJob(fresh_job()))
    assert bench.observed.conflicts == {"job/one-answer"}


def test_a_snapshot_that_is_there_already_makes_the_plan_void(bench: Bench) -> None:
    bench.api.add("configmaps", config_map())
    with pytest.raises(Again):
        bench.do(CreateConfigMap(config_map()), CreateJob(fresh_job()))
    assert bench.observed.snapshot == SNAPSHOT
    assert not bench.observed.jobs


def test_a_snapshot_that_was_created_is_known(bench: Bench) -> None:
    bench.do(CreateConfigMap(config_map()), CreateJob(fresh_job()))
    assert bench.observed.snapshot == SNAPSHOT
    assert bench.observed.jobs


def test_reading_a_snapshot_tells_whether_there_is_one(bench: Bench) -> None:
    assert bench.do(ReadSnapshot("one-plan")) == 0
    assert bench.observed.snapshot_absent
    bench.api.add("configmaps", config_map())
    assert bench.do(ReadSnapshot("one-plan")) == 0
    assert bench.observed.snapshot == SNAPSHOT
    assert not bench.observed.snapshot_absent


def test_a_strangers_snapshot_is_a_conflict_and_a_predecessors_is_none(bench: Bench) -> None:
    bench.api.add("configmaps", config_map(owner="run-0"))
    bench.do(ReadSnapshot("one-plan"))
    assert bench.observed.snapshot_absent
    stranger = config_map()
    stranger["metadata"]["ownerReferences"] = []
    bench.api.add("configmaps", stranger)
    bench.do(ReadSnapshot("one-plan"))
    assert bench.observed.conflicts == {"configmap/one-plan"}


def test_benchmarks_are_read_and_their_absence_noted(bench: Bench) -> None:
    good = {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "Benchmark",
        "metadata": {"name": "vqa", "namespace": "team"},
        "spec": {"tasks": ["vqa"], "files": {"vqa.yaml": "task: vqa\n"}},
    }
    bad = {**good, "metadata": {"name": "bad", "namespace": "team"}, "spec": {"tasks": []}}
    bench.api.add("benchmarks", good)
    bench.api.add("benchmarks", bad)
    assert bench.do(ReadBenchmarks(("vqa", "bad", "none"))) == 0
    found = bench.observed.benchmarks
    assert found["vqa"] is not None
    assert found["none"] is None
    assert found["bad"] is None
    assert list(bench.observed.refused) == ["benchmark/bad"]


def test_benchmarks_are_parsed_beside_the_event_loop_and_one_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[str] = []
    most = 0

    def slow(_kind: Any, _found: Doc, where: str) -> Any:
        nonlocal most
        at_work.append(threading.current_thread().name)
        most = max(most, len(at_work))
        time.sleep(0.02)
        assert at_work.pop() != threading.main_thread().name
        raise fail(reasons.INVALID_SPEC, where, "no benchmark")

    async def read_two() -> None:
        plans = [Plan(actions=(ReadBenchmarks((name,)),)) for name in ("vqa", "bad")]
        observed = bench.observed
        await asyncio.gather(*(bench.executor.execute(KEY, observed, plan) for plan in plans))

    monkeypatch.setattr(parsing, "read", slow)
    for name in ("vqa", "bad"):
        bench.api.add("benchmarks", {"metadata": {"name": name, "namespace": "team"}})
    asyncio.run(read_two())
    assert sorted(bench.observed.refused) == ["benchmark/bad", "benchmark/vqa"]
    assert most == 1


def test_benchmarks_that_take_long_to_parse_hold_few_workers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(_kind: Any, _found: Doc, where: str) -> Any:
        go_on.wait(5)
        raise fail(reasons.INVALID_SPEC, where, "no benchmark")

    async def read_many() -> list[Any]:
        observed = bench.observed
        plan = Plan(actions=(ReadBenchmarks(("vqa",)),))
        tasks = [
            asyncio.create_task(bench.executor.execute(KEY, observed, plan)) for _ in range(10)
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.05)
        waiting = sum(not task.done() for task in tasks)
        go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [waiting, sum(isinstance(task.exception(), Again) for task in tasks)]

    monkeypatch.setattr(parsing, "read", slow)
    bench.api.add("benchmarks", {"metadata": {"name": "vqa", "namespace": "team"}})
    assert asyncio.run(read_many()) == [4, 6]


def test_a_status_conflict_reads_the_run_anew(bench: Bench) -> None:
    bench.api.objects[("evaluationruns", "team", "one")]["spec"]["suspend"] = True
    bench.api.add("evaluationruns", bench.api.objects[("evaluationruns", "team", "one")])
    with pytest.raises(Again):
        bench.do(status=WORKING, urgent=True)
    assert bench.observed.run["spec"]["suspend"] is True


def test_a_run_that_is_gone_is_dropped(bench: Bench) -> None:
    bench.api.remove("evaluationruns", "team", "one")
    assert bench.do(status=WORKING, urgent=True) is None
    assert bench.store.observe(KEY) is None


def test_a_job_that_changed_since_it_was_judged_is_not_deleted(bench: Bench) -> None:
    found = bench.with_job()
    found["status"] = {"succeeded": 1}
    bench.api.add("jobs", found)
    with pytest.raises(Again):
        bench.do(DeleteJob("one-answer", "job-1"))
    kept = bench.observed.jobs["one-answer"]
    assert kept["status"] == {"succeeded": 1}
    assert "deletionTimestamp" not in kept["metadata"]


def test_a_job_that_is_gone_is_as_good_as_deleted(bench: Bench) -> None:
    bench.with_job()
    bench.api.remove("jobs", "team", "one-answer")
    bench.do(DeleteJob("one-answer", "job-1"))
    assert not bench.observed.jobs


def test_an_event_is_not_lost_with_a_delete_that_has_to_be_repeated(bench: Bench) -> None:
    bench.with_job()
    bench.api.fail_before[("delete", "jobs")] = [Conflict("delete", 409)]
    with pytest.raises(Again):
        bench.do(
            DeleteJob("one-answer", "job-1"),
            status={"phase": "Failed"},
            events=(Event("Warning", "Failed", "why"),),
        )
    assert any("events" in entry for entry in bench.api.writes())


def test_the_end_is_told_once(bench: Bench) -> None:
    ended = {"phase": "Succeeded", "completionTime": "2026-01-01T00:00:00Z"}
    bench.do(status=ended, urgent=True)
    bench.do(status={**ended, "headline": "x"}, urgent=True)
    assert len(bench.finished) == 1


def test_a_run_that_has_just_ended_is_looked_at_once_more(bench: Bench) -> None:
    ended = {"phase": "Failed", "completionTime": "2026-01-01T00:00:00Z"}
    assert bench.do(status=ended, urgent=True) == 0
    assert bench.do(status={**ended, "observedGeneration": 2}, urgent=True) is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Unavailable("patch", 0, "reset"), id="lost"),
        pytest.param(Conflict("patch", 409), id="that of the request's repetition"),
    ],
)
def test_a_pods_contribution_is_written_once_even_if_the_answer_does_not_tell(
    bench: Bench, answer: ApiError
) -> None:
    bench.with_job()
    bench.store.put("Pod", pod(version=500))
    bench.store.forget("Pod", pod(version=501))
    bench.api.fail_after[("patch", "evaluationruns")] = [answer]

    def look() -> None:
        seen = bench.observed
        recorded = (seen.run.get("status") or {}).get("gonePods", {}).get("failures", 0)
        bench.do(status={"gonePods": {"failures": recorded + seen.gone.failures}}, urgent=True)

    with pytest.raises((Unavailable, Again)):
        look()
    if isinstance(answer, Unavailable):
        with pytest.raises(Again):
            look()  # on the old version: it conflicts with what was written after all
    look()
    look()
    written = bench.api.objects[("evaluationruns", "team", "one")]["status"]
    assert written == {"gonePods": {"failures": 1}}


def test_a_plan_may_ask_to_be_made_again(bench: Bench) -> None:
    assert bench.do(requeue_after=5.0) == 5.0
    assert bench.do() is None
