"""Runs that are suspended and go on, at any moment and split in any way."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from lives import (
    GPU,
    SHAPES,
    THREE,
    TRIAL,
    Life,
    at_step,
    begin,
    names,
    phase,
    reason_of,
    succeeded,
)
from world import STUCK, Crashed, Fate, LostReply, condition
from world_process import Process

from evalrun_operator.reconcile import reconcile

pytestmark = pytest.mark.decisions


@SHAPES
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_a_run_may_be_suspended_at_any_moment_and_go_on_with_other_shards(
    spec: dict[str, Any], shards: int
) -> None:
    accelerators = spec.get("parallelism", {}).get("acceleratorsPerShard", 1)
    for moment in range(16):
        life = Life(begin(spec))
        for _ in range(moment):
            life.work()
            life.world.tick()
        if life.world.status.get("completionTime"):
            continue
        life.world.edit_run(suspend=True)
        ended = False
        for _ in range(6):
            life.work()
            life.world.tick()
        ended = bool(life.world.status.get("completionTime"))
        if not ended:
            assert condition(life.world.run, "Suspended"), (moment, life.world.status)
            assert all(condition(job, "Complete") for job in life.world.all("Job"))
            life.rest()
        parallelism = {"shards": shards, "acceleratorsPerShard": accelerators}
        life.world.edit_run(suspend=False, parallelism=parallelism)
        life.to_the_end()
        succeeded(life)
        if not ended:
            assert life.world.status["resumes"] == 1
            suspended = [c for c in life.world.status["conditions"] if c["type"] == "Suspended"]
            assert [c["status"] for c in suspended] == ["False"]
        assert len(life.world.counted_writes) <= 15 + 4 + 4


def test_time_is_counted_once_where_a_suspension_is_carried_out_late() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.world.tick()
    life.world.edit_run(suspend=True)
    life.world.crash_after = len(life.world.writes) + 1
    with pytest.raises(Crashed):
        life.process.work()
    life.world.crash_after = None
    spent = life.world.status["activeSeconds"]
    life.world.tick(600)
    life.process = Process(life.world, life.config)
    life.until(lambda world: condition(world.run, "Suspended"))
    assert life.world.status["activeSeconds"] == spent


@pytest.mark.parametrize("taken_back", [False, True])
def test_time_is_counted_once_of_a_job_that_ends_before_its_suspension(taken_back: bool) -> None:
    life = Life(begin(GPU, fates={"answer": [Fate(works=3)]}))
    life.until(phase("Answering"))
    life.world.tick()
    life.world.tick()
    life.world.edit_run(suspend=True)
    life.world.crash_after = len(life.world.writes) + 1  # the status; not the delete
    with pytest.raises(Crashed):
        life.process.work()
    life.world.crash_after = None
    assert life.world.status["phase"] == "Suspended"
    if taken_back:
        life.world.edit_run(suspend=False)
    while not condition(life.world.objects[("Job", "trial-answer")], "Complete"):
        life.world.tick()
    life.process = Process(life.world, life.config)
    if not taken_back:
        life.until(lambda world: condition(world.run, "Suspended"))
        life.world.tick(600)
        life.world.edit_run(suspend=False)
    life.to_the_end()
    succeeded(life)
    took = 0.0
    for job in life.world.all("Job"):
        ended = condition(job, "Complete")
        assert ended is not None
        begun = datetime.fromisoformat(job["status"]["startTime"])
        took += (datetime.fromisoformat(ended["lastTransitionTime"]) - begun).total_seconds()
    assert life.world.status["activeSeconds"] == took


def test_a_last_step_that_is_repeated_after_a_suspension_is_not_called_suspended() -> None:
    life = Life(begin(GPU, fates={"score": [Fate(works=3)]}))
    life.until(phase("Scoring"))
    life.world.tick()
    life.world.edit_run(suspend=True)
    life.world.crash_after = len(life.world.writes) + 1  # the status; not the delete
    with pytest.raises(Crashed):
        life.process.work()
    life.world.crash_after = None
    life.world.edit_run(suspend=False)
    while not condition(life.world.objects[("Job", "trial-score")], "Complete"):
        life.world.tick()
    for pod in at_step(life.world, "score"):
        del life.world.objects[("Pod", pod["metadata"]["name"])]
    life.world.tick(60)
    life.process = Process(life.world, life.config)
    life.work()
    assert life.world.status["phase"] == "Scoring"
    life.to_the_end()
    succeeded(life)


def test_a_run_is_not_stopped_while_a_job_that_was_never_told_of_is_going() -> None:
    life = Life(begin(GPU, fates={"prepare": [STUCK]}, crash_after=2))  # ConfigMap, Job; no status
    with pytest.raises(Crashed):
        life.process.work()
    life.world.crash_after = None
    life.world.tick()
    life.world.edit_run(suspend=True)
    life.world.remove("Job", "trial-prepare")
    life.process = Process(life.world, life.config)
    life.work()
    assert life.world.status["phase"] == "Suspended"
    assert not condition(life.world.run, "Suspended")
    life.until(lambda world: condition(world.run, "Suspended"))
    assert names(life.world, "Job") == []


def test_a_run_is_suspended_though_its_plan_and_its_benchmark_are_gone() -> None:
    spec = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    world = begin(spec, fates={"answer": [STUCK]})
    world.put("Benchmark", TRIAL)
    life = Life(world)
    life.until(phase("Answering"))
    world.remove("ConfigMap", "trial-plan")
    world.remove("Benchmark", "shapes")
    world.edit_run(suspend=True)
    life.process = Process(world, life.config)
    life.until(lambda world: condition(world.run, "Suspended"))
    life.rest()
    assert names(world, "Job") == ["trial-prepare"]


def test_a_resume_is_counted_once_though_a_job_from_before_was_never_told_of() -> None:
    kinds = ["EvaluationRun", "Pod"]  # the watch of Jobs is late
    life = Life(begin(THREE, lose_after=2))  # the Job; whose answer would have told of it
    process = life.process
    process.see()
    observed = process.observe()
    assert observed is not None
    with pytest.raises(LostReply):
        process._do(observed, reconcile(observed, life.world.now, life.config))
    life.world.edit_run(suspend=True)
    process.work(kinds)
    life.world.edit_run(suspend=False, parallelism={"shards": 1})
    process.step(kinds)
    life.to_the_end()
    succeeded(life)
    assert life.world.status["resumes"] == 1


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
def test_a_plan_that_was_never_told_of_is_known_again_though_the_work_is_spread_otherwise(
    seen: bool,
) -> None:
    life = Life(begin(THREE, crash_after=1))  # the ConfigMap; no Job and no status
    with pytest.raises(Crashed):
        life.process.work()
    life.world.crash_after = None
    life.process = Process(life.world, life.config)
    life.world.edit_run(suspend=True)
    if seen:
        life.work()
    life.world.edit_run(suspend=False, parallelism={"shards": 1})
    life.to_the_end()
    succeeded(life)
    assert names(life.world, "ConfigMap") == ["trial-plan"]


def test_a_run_that_is_born_suspended_costs_nothing_until_it_is_resumed() -> None:
    life = Life(begin({**THREE, "suspend": True}))
    life.work()
    life.rest()
    assert life.world.counted_writes == ["status", "event Suspended"]
    life.world.edit_run(suspend=False)
    life.to_the_end()
    succeeded(life)


def test_what_a_suspended_run_may_change_is_held_against_the_policy() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.world.edit_run(suspend=True)
    life.until(lambda world: condition(world.run, "Suspended"))
    life.world.edit_run(suspend=False, answerPod={"image": "evil:1"})
    status = life.to_the_end()
    assert reason_of(status) == "InvalidSpec"
    assert "spec.answerPod.image" in status["conditions"][0]["message"]
    assert "trial-answer" not in names(life.world, "Job")


def test_many_shards_may_be_suspended_within_the_budget_of_disruptions() -> None:
    spec = {"parallelism": {"shards": 20}}
    life = Life(begin(spec, fates={"answer": [STUCK] * 40}), maxIgnoredRestarts=2)
    life.until(phase("Answering"))
    for _ in range(2):
        life.world.tick()
        life.work()
        life.world.edit_run(suspend=True)
        life.until(lambda world: condition(world.run, "Suspended"))
        life.world.edit_run(suspend=False)
        life.until(phase("Answering"))
    life.to_the_end()
    succeeded(life)


@pytest.mark.parametrize("waits", [True, False], ids=["when it has stopped", "at once"])
def test_a_run_may_be_resumed_with_far_fewer_shards(waits: bool) -> None:
    spec = {"parallelism": {"shards": 30}}
    fates = [STUCK] * 30 + [Fate(exit_code=143, disrupted=True)] * 2
    life = Life(begin(spec, fates={"answer": fates}), maxIgnoredRestarts=2)
    life.until(lambda world: world.status.get("shards", {}).get("active") == 30)
    life.world.edit_run(suspend=True)
    life.work()
    if waits:
        life.until(lambda world: condition(world.run, "Suspended"))
    life.world.edit_run(suspend=False, parallelism={"shards": 1})
    life.to_the_end()
    succeeded(life)
    assert life.world.status["shards"]["ignoredRestarts"] == 32


def test_pods_that_a_suspension_ends_are_forgiven_though_they_are_seen_late() -> None:
    life = Life(begin(THREE, fates={"answer": [STUCK] * 3}), maxIgnoredRestarts=1)
    life.until(phase("Answering"))
    life.world.tick()
    kinds = ["EvaluationRun", "Job"]
    life.world.edit_run(suspend=True)
    life.process.work(kinds)
    life.world.edit_run(suspend=False, parallelism={"shards": 1})
    life.process.work(kinds)
    life.process.see()  # at work, and gone a moment later
    life.to_the_end()
    succeeded(life)
    assert life.world.status["shards"]["ignoredRestarts"] == 3


def test_a_resume_grants_no_more_disruptions_than_a_start() -> None:
    fates = [STUCK] + [Fate(exit_code=143, disrupted=True)] * 9
    life = Life(begin(GPU, fates={"answer": fates}), maxIgnoredRestarts=4)
    life.until(phase("Answering"))
    life.world.tick()
    life.world.edit_run(suspend=True)
    life.until(lambda world: condition(world.run, "Suspended"))
    life.process = Process(life.world, life.config)
    life.world.edit_run(suspend=False)
    status = life.to_the_end()
    assert reason_of(status) == "Disrupted"
    assert "disrupted 5 times; 4 are allowed" in status["conditions"][0]["message"]


def test_the_run_s_deadline_is_of_all_work_over_suspensions() -> None:
    spec = {**GPU, "activeDeadlineSeconds": 100}
    life = Life(begin(spec, fates={"answer": [STUCK] * 9}))
    life.until(phase("Answering"))
    for _ in range(9):
        for _ in range(4):
            life.world.tick()
            life.work()
        if life.world.status.get("completionTime"):
            break
        life.world.edit_run(suspend=True)
        life.until(lambda world: condition(world.run, "Suspended"))
        life.world.tick(3600)
        life.world.edit_run(suspend=False)
    status = life.to_the_end()
    assert reason_of(status) == "DeadlineExceeded"
    assert 90 <= status["activeSeconds"] <= 140
