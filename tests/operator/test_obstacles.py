"""What a run needs and does not get: Benchmarks, rights, a name of its own, its plan."""

from __future__ import annotations

from typing import Any

import pytest
from lives import (
    GPU,
    THREE,
    TRIAL,
    Life,
    begin,
    names,
    phase,
    reason_of,
    reason_of_stall,
    succeeded,
)
from world import STUCK, Crashed, condition
from world_process import Process

pytestmark = pytest.mark.decisions


@pytest.mark.parametrize("suspended", [False, True])
def test_a_benchmark_may_be_applied_after_its_run(suspended: bool) -> None:
    spec: dict[str, Any] = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    life = Life(begin({**spec, "suspend": suspended}))
    if suspended:
        life.work()
        life.world.tick(3600)
        life.world.edit_run(suspend=False)
    life.work()
    assert life.world.status["phase"] == "Pending"
    assert condition(life.world.run, "Stalled")
    assert names(life.world, "Job") == []
    life.world.tick(60)
    life.world.put("Benchmark", TRIAL)
    life.process.benchmarks.clear()
    life.to_the_end()
    succeeded(life)
    assert life.world.status.get("resumes", 0) == int(suspended)
    if suspended:
        (kept,) = (c for c in life.world.status["conditions"] if c["type"] == "Suspended")
        assert kept["status"] == "False"


def test_a_benchmark_that_never_comes_ends_the_run() -> None:
    spec = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    life = Life(begin(spec))
    status = life.to_the_end(ticks=200)
    assert reason_of(status) == "BenchmarkNotFound"
    assert "no Benchmark shapes in namespace team" in status["conditions"][0]["message"]
    assert len(life.world.counted_writes) <= 15


def test_a_benchmark_that_cannot_be_read_is_told_so() -> None:
    spec = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    life = Life(begin(spec))
    life.process.refused["benchmark/shapes"] = "Benchmark shapes: spec.tasks: the field is missing"
    life.work()
    assert "spec.tasks: the field is missing" in life.world.status["conditions"][0]["message"]


def test_a_benchmark_that_goes_after_the_crash_that_followed_its_snapshot_is_not_missed() -> None:
    spec = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    world = begin(spec, crash_after=2)
    world.put("Benchmark", TRIAL)
    life = Life(world)
    with pytest.raises(Crashed):
        life.process.work()
    world.crash_after = None
    world.remove("Benchmark", "shapes")
    life.process = Process(world, life.config)
    life.to_the_end()
    succeeded(life)


def test_a_job_whose_plan_was_not_kept_and_is_another_now_is_made_anew() -> None:
    world = begin(GPU, crash_after=1)
    life = Life(world)
    with pytest.raises(Crashed):
        life.process.work()
    assert (names(world, "Job"), names(world, "ConfigMap")) == (["trial-prepare"], [])
    world.crash_after = None
    # The next release gives the same spec another plan.
    (made,) = world.all("Job")
    made["metadata"]["annotations"]["lmms-eval.io/plan-digest"] = "of another release"
    life.process = Process(world, life.config)
    life.to_the_end()
    succeeded(life)
    assert world.writes.count("create Job trial-prepare") == 2
    assert world.jobs_alive == 1


@pytest.mark.parametrize("kind", ["Job", "ConfigMap"])
def test_what_the_api_server_refuses_is_told_and_tried_again(kind: str) -> None:
    life = Life(begin(GPU, forbidden={kind}))
    for _ in range(10):
        life.work()
        life.world.tick()
    assert condition(life.world.run, "Stalled")
    assert reason_of_stall(life.world.status) == "CreateRefused"
    assert "exceeded quota" in life.world.status["conditions"][0]["message"]
    life.world.forbidden.clear()
    life.to_the_end()
    succeeded(life)
    assert len(life.world.counted_writes) <= 15


def test_without_its_plan_kept_a_run_goes_no_further_than_its_first_job() -> None:
    life = Life(begin(GPU, forbidden={"ConfigMap"}))
    for _ in range(20):
        life.work()
        life.world.tick(30)
    assert set(names(life.world, "Job")) <= {"trial-prepare"}
    life.until(lambda world: world.status.get("completionTime"))
    assert reason_of(life.world.status) == "CreateRefused"
    assert "create Job trial-answer" not in life.world.writes


def test_a_wait_for_something_else_begins_anew() -> None:
    spec = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    life = Life(begin(spec, forbidden={"Job"}))
    life.work()
    assert reason_of_stall(life.world.status) == "BenchmarkNotFound"
    life.world.tick(580)
    life.world.put("Benchmark", TRIAL)
    life.process.benchmarks.clear()
    life.until(lambda world: reason_of_stall(world.status) == "CreateRefused")
    life.world.tick(500)
    life.work()
    assert life.world.status["phase"] == "Pending"
    life.world.tick(120)
    life.work()
    assert reason_of(life.world.status) == "CreateRefused"
    assert life.world.status["phase"] == "Failed"


def test_a_plan_that_cannot_be_read_is_told_and_holds_up_no_suspension() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.process = Process(life.world, life.config)
    life.process.refused["content of configmap/trial-plan"] = "it does not hold this run's plan"
    life.process.step()
    assert reason_of_stall(life.world.status) == "CorruptStore"
    life.world.edit_run(suspend=True)
    for _ in range(4):
        life.process.step()
        life.world.tick()
    assert condition(life.world.run, "Suspended")
    assert names(life.world, "Job") == ["trial-prepare"]


def test_a_suspension_that_may_delete_nothing_is_told() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.process.refused["delete job/trial-answer"] = "jobs.batch is forbidden"
    life.world.edit_run(suspend=True)
    life.process.see()
    plan = life.process.decide()
    assert plan is not None
    assert plan.status is not None
    assert reason_of_stall(plan.status) == "DeleteRefused"


@pytest.mark.parametrize("kind", ["Job", "ConfigMap"])
def test_what_is_refused_for_ever_ends_the_run(kind: str) -> None:
    life = Life(begin({**GPU, "startDeadlineSeconds": 60}, forbidden={kind}))
    status = life.to_the_end()
    assert reason_of(status) == "CreateRefused"
    assert len(life.world.counted_writes) <= 15


def test_a_refusal_in_the_middle_of_a_life_stops_at_its_step() -> None:
    life = Life(begin(THREE))
    life.until(phase("Preparing"))
    life.world.forbidden.add("Job")
    for _ in range(10):
        life.work()
        life.world.tick()
    assert (life.world.status["phase"], life.world.status["step"]) == ("Preparing", "Prepare")
    life.process = Process(life.world, life.config)
    life.work()
    life.world.forbidden.clear()
    life.to_the_end()
    succeeded(life)


def test_an_object_of_someone_else_is_left_alone_and_named() -> None:
    for kind, name in (("Job", "trial-prepare"), ("ConfigMap", "trial-plan")):
        world = begin(GPU)
        world.put(kind, {"metadata": {"name": name}, "spec": {}, "data": {}})
        if kind == "Job":
            world.objects[(kind, name)]["status"] = {
                "conditions": [{"type": "Complete", "status": "True"}]
            }
        life = Life(world)
        status = life.to_the_end()
        assert reason_of(status) == "NameTaken"
        assert name in status["conditions"][0]["message"]
        assert names(world, kind) == [name]
