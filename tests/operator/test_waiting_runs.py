"""Runs that wait for the administrator's caps, from their first look to their end."""

from __future__ import annotations

from typing import Any

import pytest
from fleet import Fleet
from lives import CPU, GPU, THREE, TRIAL, reason_of
from world import STUCK, condition
from world_documents import run_document

from evalrun_operator.standing import JobWithPods, standing_of

pytestmark = pytest.mark.decisions


def fleet(caps: dict[str, Any], count: int, namespace: str = "team", **fields: Any) -> Fleet:
    found = Fleet(caps, **fields)
    for number in range(count):
        found.apply(f"r{number:02d}", namespace, **CPU)
    return found


def said(found: Fleet, name: str) -> str:
    ready = next(c for c in found.status(name)["conditions"] if c["type"] == "Ready")
    return str(ready["message"])


def test_runs_over_the_cap_wait_say_so_and_have_nothing_created() -> None:
    found = fleet({"maxActiveRuns": 2}, 5)
    found.work()
    assert found.phases() == {"Preparing": 2, "Queued": 3}
    third = found.status("r04")
    assert third["queuePosition"] == 3
    assert said(found, "r04") == "3rd in line: namespace team may have 2 runs at work and has 2"
    assert reason_of(third) == "CapReached"
    assert condition({"status": third}, "Reconciling")
    assert not condition({"status": third}, "Stalled")
    assert "startTime" not in third
    assert found.world.created["Job"] == found.world.created["ConfigMap"] == 2


@pytest.mark.parametrize("spec", [CPU, GPU, THREE], ids=["cpu", "gpu", "three"])
def test_all_get_their_turn_and_the_cap_is_never_exceeded(spec: dict[str, Any]) -> None:
    found = Fleet({"maxActiveRuns": 2, "namespaces": {"b": {"maxActiveRuns": 1}}})
    for number in range(5):
        for namespace in "ab":
            found.apply(f"{namespace}{number}", namespace, **spec)
    found.until(found.all_ended)
    assert found.phases() == {"Succeeded": 10}
    assert found.most == {"a": 2, "b": 1}
    assert all("queuePosition" not in found.status(name) for name in found.names())
    begun = [what.split()[-1] for what in found.world.writes if what.startswith("create Job")]
    first = "-run" if spec is CPU else "-prepare"
    for namespace in "ab":
        order = [name for name in begun if name.startswith(namespace) and name.endswith(first)]
        assert order == [f"{namespace}{number}{first}" for number in range(5)]


def test_a_wait_costs_few_writes_and_the_next_look_none() -> None:
    found = fleet({"maxActiveRuns": 1}, 3)
    found.work()
    before = len(found.world.writes)
    found.resync()
    found.work()
    assert found.world.writes[before:] == []
    found.until(found.all_ended)
    for name in ("r01", "r02"):
        written = [what for what in found.world.writes if name in what]
        assert len(written) <= 15, written


def test_only_those_are_looked_at_that_may_begin() -> None:
    found = fleet({"maxActiveRuns": 1}, 20)
    found.work()
    found.tick()  # the first one in line is looked at, which knows it already
    found.looked.clear()
    found.until(lambda: found.status("r00").get("completionTime"))
    found.work()
    assert set(found.looked) == {"r00", "r01"}
    assert found.status("r01")["phase"] == "Preparing"
    found.looked.clear()
    found.tick(10)
    assert set(found.looked) <= {"r01", "r02"}
    assert found.status("r02")["queuePosition"] == 1  # it is told that it is the next
    assert found.status("r03")["queuePosition"] == 3


def test_a_place_is_told_again_when_it_has_halved_and_when_it_is_the_next() -> None:
    found = fleet({"maxActiveRuns": 1}, 60)
    told: list[int] = []
    found.work()
    for _ in range(700):
        found.tick(30)
        found.resync()
        found.work()
        place = found.status("r59").get("queuePosition")
        if place is not None and told[-1:] != [place]:
            told.append(place)
        if found.status("r59").get("startTime"):
            break
    assert told == [59, 29, 14, 7, 3, 1]
    assert len([w for w in found.world.writes if w == "progress r59"]) <= len(told) + 4


def test_a_restart_in_the_middle_lets_nobody_in_and_forgets_nobody() -> None:
    for moment in range(12):
        found = fleet({"maxActiveRuns": 2}, 4)
        found.work()
        for _ in range(moment):
            found.tick()
        found.restart()
        found.until(found.all_ended)
        assert found.phases() == {"Succeeded": 4}
        assert found.most["team"] == 2


@pytest.mark.parametrize("write", range(1, 25))
def test_a_crash_after_any_write_exceeds_no_cap(write: int) -> None:
    found = fleet({"maxActiveRuns": 1}, 3, crash_after=write)
    found.until(found.all_ended)
    assert found.phases() == {"Succeeded": 3}
    assert found.most["team"] == 1


@pytest.mark.parametrize("write", range(1, 25))
def test_an_answer_that_is_lost_exceeds_no_cap(write: int) -> None:
    found = fleet({"maxActiveRuns": 1}, 3, lose_after=write)
    found.until(found.all_ended)
    assert found.most["team"] == 1


def test_a_run_keeps_its_turn_through_all_its_steps() -> None:
    found = Fleet({"maxActiveRuns": 1})
    found.apply("first", **GPU)
    found.apply("second", **GPU)
    for phase in ("Preparing", "Answering", "Scoring"):
        found.until(lambda phase=phase: found.status("first").get("phase") == phase)
        assert found.status("second")["phase"] == "Queued"


def test_a_run_that_cannot_be_right_is_refused_at_once_though_others_wait() -> None:
    found = fleet({"maxActiveRuns": 1}, 3)
    found.apply("wrong", benchmarks=[{"name": "mmee"}])
    found.work()
    assert found.status("wrong")["phase"] == "Failed"
    assert found.phases()["Queued"] == 2


def test_a_stopped_run_gives_its_place_up_and_going_on_has_to_wait() -> None:
    found = fleet({"maxActiveRuns": 1}, 2, fates={"all": [STUCK, STUCK]})
    found.until(lambda: found.world.all("Pod"))
    found.tick()
    found.edit("r00", suspend=True)
    found.work()
    assert found.phases() == {"Suspended": 1, "Queued": 1}  # its pod is ending
    found.until(lambda: condition(found.run("r00"), "Suspended"))
    assert found.at_work() == {"team": ["r01"]}
    found.edit("r00", suspend=False)
    found.work()
    assert found.status("r00")["phase"] == "Queued"
    assert found.status("r00")["resumes"] == 1
    found.restart()
    found.tick()
    assert found.at_work() == {"team": ["r01"]}
    found.world.remove("EvaluationRun", "r01")
    found.until(found.all_ended)
    assert found.status("r00")["phase"] == "Succeeded"
    assert found.status("r00")["resumes"] == 1
    assert found.most["team"] == 1


def test_a_waiting_run_may_be_suspended_edited_resumed_and_deleted() -> None:
    found = fleet({"maxActiveRuns": 1}, 4)
    found.work()
    found.edit("r01", suspend=True)
    found.world.remove("EvaluationRun", "r02")
    found.work()
    assert found.status("r01")["phase"] == "Suspended"
    assert condition(found.run("r01"), "Suspended")
    assert "queuePosition" not in found.status("r01")
    found.until(lambda: found.status("r03").get("startTime"))
    found.edit("r01", suspend=False, parallelism={"acceleratorsPerShard": 0})
    found.work()
    assert found.status("r01")["queuePosition"] == 1
    assert found.status("r01")["observedGeneration"] == 3
    found.until(found.all_ended)
    assert found.most["team"] == 1


def test_a_run_that_lacks_its_benchmark_keeps_nobody_waiting_and_goes_on_with_it() -> None:
    found = Fleet({"maxActiveRuns": 1})
    found.apply("early", benchmarks=[{"benchmarkRef": {"name": "shapes"}}], **CPU)
    found.apply("ready", **CPU)
    found.work()
    assert reason_of(found.status("early")) == "Pending"
    assert found.status("ready")["phase"] == "Preparing"
    found.world.put("Benchmark", TRIAL)
    found.tick(40)
    assert found.status("early")["queuePosition"] == 1
    found.until(found.all_ended)
    assert found.most["team"] == 1


def test_a_run_whose_job_is_refused_keeps_its_turn_until_it_is_given_up() -> None:
    found = fleet({"maxActiveRuns": 1}, 2)
    found.world.forbidden = {"Job"}
    for _ in range(20):
        found.tick(20)
    assert reason_of(found.status("r00")) == "Pending"
    assert found.status("r01")["queuePosition"] == 1
    found.world.forbidden = set()
    found.until(found.all_ended)
    assert found.phases() == {"Succeeded": 2}
    assert len([w for w in found.world.writes if "r01" in w]) <= 15


def test_waiting_counts_for_no_deadline() -> None:
    found = Fleet({"maxPendingPods": 3}, fates={"prepare": [STUCK]})
    found.apply("large", "a", **THREE)
    found.apply("small", "b", startDeadlineSeconds=60, activeDeadlineSeconds=60, **CPU)
    found.work()
    assert said(found, "small") == (
        "1st in line: 3 pods may wait for their start and 3 do, this run would add 1 more"
    )
    for _ in range(20):
        found.tick(3600)
        found.resync()
        found.work()
    assert found.status("small")["phase"] == "Queued"
    found.world.remove("EvaluationRun", "large")
    found.until(lambda: found.status("small").get("completionTime"))
    assert found.status("small")["phase"] == "Succeeded"
    assert found.status("small")["activeSeconds"] < 60


def test_a_run_begins_as_soon_as_the_pods_before_it_run() -> None:
    found = Fleet({"maxPendingPods": 3}, fates={"answer": [STUCK] * 3})
    found.apply("large", "a", **THREE)
    found.apply("small", "b", **CPU)
    found.until(lambda: found.status("small").get("startTime"))
    running = [pod["status"]["phase"] for pod in found.world.all("Pod")]
    assert found.status("large")["phase"] == "Answering"
    assert running.count("Running") >= 1


def test_pods_of_kueue_hold_nobody_back() -> None:
    job = {"metadata": {"labels": {"lmms-eval.io/step": "answer"}}, "status": {}}
    job["spec"] = {"parallelism": 8, "completions": 8, "suspend": True}
    run: dict[str, Any] = run_document(queueName="gpus", parallelism={"shards": 8})
    waits = standing_of(run, [])
    assert waits is not None
    assert (waits.at_work, waits.pods) == (False, 1)  # the step before is in no queue
    all_queued = standing_of({**run, "spec": {**run["spec"], "cpuQueueName": "cpus"}}, [])
    assert all_queued is not None
    assert all_queued.pods == 0
    queued = standing_of(run, [JobWithPods(job, [])])
    assert queued is not None
    assert (queued.at_work, queued.pods) == (True, 0)
    job["spec"]["suspend"] = False
    let_in = standing_of(run, [JobWithPods(job, [{"status": {"phase": "Running"}}])])
    assert let_in is not None
    assert let_in.pods == 7


def test_a_run_whose_job_is_held_back_reserves_nothing_for_its_shards() -> None:
    job = {"metadata": {"labels": {"lmms-eval.io/step": "prepare"}}, "status": {}}
    job["spec"] = {"parallelism": 1, "completions": 1, "suspend": True}
    run = run_document(cpuQueueName="nobody-made-it", parallelism={"shards": 1000})
    held = standing_of(run, [JobWithPods(job, [])])
    assert held is not None
    assert (held.at_work, held.pods) == (True, 0)


def test_a_run_with_a_job_is_at_work_though_its_status_still_says_that_it_waits() -> None:
    job = {"metadata": {"labels": {"lmms-eval.io/step": "prepare"}}, "spec": {}}
    job["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    waiting = {"phase": "Queued", "queuePosition": 1}
    found = standing_of({**run_document(), "status": waiting}, [JobWithPods(job, [])])
    assert found is not None
    assert found.at_work


@pytest.mark.parametrize(
    ("status", "spec", "at_work"),
    [
        ({}, {}, False),
        ({"startTime": "x", "phase": "Answering"}, {}, True),
        ({"startTime": "x", "phase": "Answering"}, {"suspend": True}, True),
        ({"startTime": "x", "phase": "Suspended"}, {"suspend": True}, None),
        ({"startTime": "x", "phase": "Suspended"}, {}, False),
        ({"startTime": "x", "phase": "Queued", "queuePosition": 3}, {}, False),
        ({"startTime": "x", "phase": "Queued", "queuePosition": 3}, {"suspend": True}, None),
        ({"startTime": "x", "phase": "Queued"}, {}, True),  # of Kueue, between two Jobs
    ],
)
def test_whether_a_run_is_at_work_is_told_by_its_status(
    status: dict[str, Any], spec: dict[str, Any], at_work: bool | None
) -> None:
    found = standing_of({**run_document(**spec), "status": status}, [])
    assert (found.at_work if found is not None else None) is at_work
