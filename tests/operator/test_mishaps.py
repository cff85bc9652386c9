"""What goes wrong with pods and Jobs, and how a run tells of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from lives import (
    CPU,
    GPU,
    THREE,
    Life,
    at_step,
    begin,
    names,
    phase,
    reason_of,
    reason_of_stall,
    succeeded,
)
from world import FINE, REQUESTS, STUCK, Fate, World, condition
from world_process import Process

from evalrun_operator.reconcile import reconcile

pytestmark = pytest.mark.decisions


def test_a_prepare_step_that_fails_asks_for_no_gpu() -> None:
    life = Life(begin(THREE, fates={"prepare": [Fate(exit_code=10, exit_reason="Error")]}))
    status = life.to_the_end()
    assert status["phase"] == "Failed"
    assert names(life.world, "Job") == ["trial-prepare"]
    assert len(life.world.counted_writes) <= 15


@pytest.mark.parametrize("message", ["", "done!", "{}"])
def test_a_last_step_that_says_nothing_is_no_success_and_not_repeated(message: str) -> None:
    life = Life(begin(GPU, fates={"score": [Fate(message=message)]}))
    status = life.to_the_end()
    assert (status["phase"], reason_of(status)) == ("Failed", "InternalError")
    assert "did not say where the results are" in status["conditions"][0]["message"]
    assert life.world.created["Job"] == 3


def test_what_a_new_process_has_not_seen_of_a_last_pod_is_not_taken_for_gone_at_once() -> None:
    life = Life(begin(GPU))
    life.until(lambda world: any(pod["status"]["phase"] == "Running" for pod in score_pods(world)))
    while not all(condition(job, "Complete") for job in life.world.all("Job")):
        life.world.tick()
    life.world.tick(120)  # the operator is down meanwhile
    life.process.see()
    for pod in score_pods(life.world):  # what it has read of pods was old
        del life.process.seen["Pod"][pod["metadata"]["name"]]
    observed = life.process.observe()
    assert observed is not None

    def decided(seconds: float) -> tuple[str, ...]:
        known = replace(observed, known_seconds=seconds)
        plan = reconcile(known, life.world.now, life.process.config)
        return tuple(type(action).__name__ for action in plan.actions)

    assert decided(0.0) == decided(29.0) == ()
    assert decided(31.0) == ("DeleteJob",)


def score_pods(world: World) -> list[dict[str, Any]]:
    return at_step(world, "score")


def test_one_shard_that_fails_for_good_stops_the_others() -> None:
    fates = {"answer": [STUCK, Fate(exit_code=12, exit_reason="Error"), STUCK]}
    life = Life(begin(THREE, fates=fates))
    status = life.to_the_end()
    assert status["phase"] == "Failed"
    assert condition(life.world.run, "Failed")
    assert all(pod["status"]["phase"] != "Running" for pod in life.world.all("Pod"))
    assert status["usage"]["gpuSeconds"] != "0"


def test_a_shard_may_fail_as_often_as_its_limit_says() -> None:
    failure = Fate(exit_code=1, exit_reason="Error")
    life = Life(begin({**GPU, "retryLimit": 2}, fates={"answer": [failure] * 2}))
    life.to_the_end()
    succeeded(life)
    assert life.world.status["shards"]["restarts"] == 2
    assert len(life.world.counted_writes) <= 15 + 2 * 4
    life = Life(begin({**GPU, "retryLimit": 2}, fates={"answer": [failure] * 3}))
    assert life.to_the_end()["phase"] == "Failed"


def test_preempted_pods_are_replaced_and_counted() -> None:
    fates = {"answer": [Fate(exit_code=143, disrupted=True)] * 5}
    life = Life(begin(THREE, fates=fates))
    life.to_the_end()
    succeeded(life)
    assert life.world.status["shards"]["ignoredRestarts"] == 5
    assert life.world.status["shards"]["restarts"] == 0
    assert len(life.world.counted_writes) <= 15


def test_too_many_disruptions_end_the_run() -> None:
    fates = {"answer": [Fate(exit_code=143, disrupted=True)] * 50}
    life = Life(begin(GPU, fates=fates), maxIgnoredRestarts=4)
    status = life.to_the_end()
    assert reason_of(status) == "Disrupted"
    assert "PreemptionByScheduler" in status["conditions"][0]["message"]
    assert status["shards"]["ignoredRestarts"] == 5


@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        (Fate(waiting=("ErrImagePull", "no such image")), "ImagePullFailed"),
        (Fate(waiting=("CreateContainerConfigError", 'secret "s3" not found')), "SecretNotFound"),
        (Fate(waiting=("ContainerCreating", "")), "StartDeadlineExceeded"),
        (Fate(unschedulable=True, text="0/3 nodes are available"), "Unschedulable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pod_that_cannot_start_gives_its_gpu_back(fate: Fate, reason: str) -> None:
    life = Life(begin({**THREE, "startDeadlineSeconds": 60}, fates={"answer": [fate, FINE, FINE]}))
    status = life.to_the_end()
    assert reason_of(status) == reason
    assert names(life.world, "Job") == ["trial-prepare"]
    assert len(life.world.counted_writes) <= 15


def test_a_pod_on_a_dead_node_is_told_and_does_not_pass_for_one_at_work() -> None:
    life = Life(begin(THREE, fates={"answer": [STUCK] * 3}))
    life.until(lambda world: world.status.get("shards", {}).get("active") == 3)
    name = at_step(life.world)[0]["metadata"]["name"]
    life.world.dead.add(name)
    life.world.remove("Pod", name)  # by the taint manager
    life.work()
    assert life.world.status["phase"] == "Answering"
    plan = life.process.decide()
    assert plan is not None
    assert 50 < (plan.requeue_after or 0) <= 61
    life.world.tick(61)
    life.world.tick(60)
    life.work()
    assert reason_of_stall(life.world.status) == "NodeLost"
    assert life.world.status["shards"]["active"] == 2
    assert name in life.world.status["conditions"][0]["message"]
    del life.world.objects[("Pod", name)]  # a person deletes it by force
    life.until(lambda world: not condition(world.run, "Stalled"))


def suspend_on_a_dead_node(life: Life) -> str:
    """Suspend a run whose one pod can never end; its name."""
    life.until(lambda world: world.status.get("shards", {}).get("active") == 1)
    (pod,) = at_step(life.world)
    name = pod["metadata"]["name"]
    life.world.dead.add(name)
    life.world.edit_run(suspend=True)
    life.work()
    life.world.tick()
    life.work()
    return str(name)


def test_a_dead_node_that_holds_up_a_suspension_or_a_resume_is_told() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    name = suspend_on_a_dead_node(life)
    life.world.tick(61)
    life.work()
    assert reason_of_stall(life.world.status) == "NodeLost"
    assert life.world.status["phase"] == "Suspended"
    life.world.edit_run(suspend=False)
    life.work()
    assert reason_of_stall(life.world.status) == "NodeLost"
    assert life.world.status["phase"] == "Answering"
    del life.world.objects[("Pod", name)]
    life.to_the_end()
    succeeded(life)


def test_where_it_is_configured_a_pod_on_a_dead_node_is_replaced_and_counts_against_nothing() -> (
    None
):
    life = Life(begin({**THREE, "retryLimit": 0}, fates={"answer": [STUCK]}), nodeLossSeconds=300)
    life.until(lambda world: world.status.get("shards", {}).get("succeeded") == 2)
    (name,) = (
        pod["metadata"]["name"]
        for pod in at_step(life.world)
        if pod["status"]["phase"] == "Running"
    )
    life.world.dead.add(name)
    life.world.remove("Pod", name)
    life.world.tick(61)
    life.work()
    assert reason_of_stall(life.world.status) == "NodeLost"
    assert "The operator gives it up at" in life.world.status["conditions"][0]["message"]
    plan = life.process.decide()
    assert plan is not None
    assert 200 < (plan.requeue_after or 0) <= 240
    life.world.tick(plan.requeue_after or 0)
    assert name in names(life.world, "Pod")
    life.work()
    lost = life.world.get("Pod", name)
    assert lost["status"]["phase"] == "Failed"
    assert condition(lost, "DisruptionTarget")
    life.to_the_end()
    succeeded(life)
    assert life.world.status["shards"]["restarts"] == 0
    assert life.world.status["shards"]["ignoredRestarts"] == 1
    assert f"fail {name}" in life.world.writes
    assert f"remove {name}" not in life.world.writes  # it is evidence


def test_where_it_is_configured_no_dead_node_holds_up_a_suspension() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}), nodeLossSeconds=10)
    name = suspend_on_a_dead_node(life)
    life.until(lambda world: condition(world.run, "Suspended"))
    assert life.world.writes.count(f"fail {name}") == 1
    assert life.world.writes.count(f"remove {name}") == 1
    life.world.edit_run(suspend=False)
    life.to_the_end()
    succeeded(life)


def test_a_pod_that_is_being_deleted_does_not_escape_the_start_deadline() -> None:
    fates = {"answer": [Fate(waiting=("ContainerCreating", ""))]}
    life = Life(begin(GPU, fates=fates))
    life.until(lambda world: at_step(world))
    life.world.tick()
    (pod,) = at_step(life.world)
    life.world.dead.add(pod["metadata"]["name"])
    life.world.remove("Pod", pod["metadata"]["name"])
    status = life.to_the_end(ticks=200)
    assert reason_of(status) == "StartDeadlineExceeded"


def test_a_quota_that_forbids_pods_ends_the_run_after_its_deadline() -> None:
    life = Life(begin({**GPU, "startDeadlineSeconds": 60}, refuse_pods=True))
    status = life.to_the_end()
    assert reason_of(status) == "StartDeadlineExceeded"
    assert "trial-prepare" in status["conditions"][0]["message"]
    assert len(life.world.counted_writes) <= 15


def behind(seconds: float, spec: dict[str, Any] = GPU) -> Life:
    """A life whose first Job has not been looked at by its controller for so long."""
    life = Life(begin(spec, behind=True))
    for _ in range(round(seconds / 30)):
        life.work()
        life.world.tick(30)
    life.work()
    return life


def test_a_job_controller_that_is_behind_is_no_quota_and_needs_nobody_yet() -> None:
    life = behind(240)
    assert not condition(life.world.run, "Stalled")
    ready = life.world.status["conditions"][0]["message"]
    assert ready == "the cluster's Job controller has yet to take up Job trial-prepare"
    life.world.tick(90)
    life.work()
    assert reason_of_stall(life.world.status) == "JobNotTakenUp"
    assert "kube-controller-manager" in str(condition(life.world.run, "Stalled"))
    life.world.behind = False
    life.to_the_end()
    succeeded(life)
    assert len(life.world.counted_writes) <= 15


def test_what_tells_of_no_new_step_is_charged() -> None:
    def is_charged(life: Life) -> bool:
        life.process.see()
        plan = life.process.decide()
        assert plan
        assert plan.urgent
        return plan.charged

    assert not is_charged(Life(begin(GPU)))
    life = behind(270)
    life.world.tick(60)
    assert is_charged(life)
    life.work()
    life.world.behind = False
    life.world.tick()
    assert is_charged(life)


def test_a_job_controller_that_never_comes_ends_the_run_after_its_deadline() -> None:
    life = Life(begin({**GPU, "startDeadlineSeconds": 60}, behind=True))
    status = life.to_the_end()
    assert reason_of(status) == "JobNotTakenUp"
    told = status["conditions"][0]["message"]
    assert "does not take up Job trial-prepare, for 60 s" in told
    begun = datetime.fromisoformat(status["startTime"])
    ended = datetime.fromisoformat(status["completionTime"])
    assert 120 <= (ended - begun).total_seconds() < 140


def test_a_job_that_is_new_does_not_inherit_the_wait_of_the_one_before() -> None:
    life = behind(330, {**GPU, "startDeadlineSeconds": 400})
    world = life.world
    assert reason_of_stall(world.status) == "JobNotTakenUp"
    world.behind = False
    for _ in range(100):  # while the operator is away
        world.tick()
    world.behind = True
    world.crash_after = len(world.writes) + 1
    life.work()
    assert life.crashes == 1
    assert "trial-answer" in names(world, "Job")
    assert world.status["phase"] != "Failed"
    world.tick(60)
    life.work()
    assert not condition(world.run, "Stalled")
    world.behind = False
    life.to_the_end()
    succeeded(life)


def test_what_a_controller_has_cost_is_not_taken_from_the_time_of_a_quota() -> None:
    life = behind(330 + 540)
    assert condition(life.world.run, "Stalled")
    life.world.refuse_pods = True
    life.world.behind = False
    life.world.tick(20)
    life.work()
    assert not condition(life.world.run, "Stalled")  # it has come, and says nothing of pods yet
    life.world.tick(40)
    life.work()
    assert reason_of_stall(life.world.status) == "StartDeadlineExceeded"
    life.world.tick(500)
    life.work()
    assert life.world.status["phase"] == "Preparing"
    status = life.to_the_end()
    assert reason_of(status) == "StartDeadlineExceeded"


def test_a_moment_without_pods_after_hours_of_work_is_no_failure() -> None:
    life = Life(begin({**GPU, "startDeadlineSeconds": 60}, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.world.tick()
    life.world.tick(7200)
    life.work()
    life.world.refuse_pods = True
    for pod in life.world.all("Pod"):
        if pod["status"]["phase"] == "Running":
            del life.world.objects[("Pod", pod["metadata"]["name"])]
    life.work()
    assert life.world.status["phase"] == "Answering"
    assert not condition(life.world.run, "Stalled")  # the Job's controller has not seen it yet
    life.world.tick(20)
    life.work()
    assert condition(life.world.run, "Stalled")
    life.world.tick(20)
    life.world.refuse_pods = False
    life.to_the_end()
    succeeded(life)


def test_a_retry_that_a_quota_forbids_does_not_hang_for_ever() -> None:
    failure = Fate(exit_code=1, exit_reason="Error")
    life = Life(begin({**GPU, "startDeadlineSeconds": 60}, fates={"answer": [failure]}))
    life.until(lambda world: any(p["status"]["phase"] == "Running" for p in at_step(world)))
    life.world.refuse_pods = True
    for _ in range(20):
        life.world.tick(30)
        life.work()
    assert not condition(life.world.run, "Stalled")  # the Job's controller may still be waiting
    status = life.to_the_end()
    assert reason_of(status) == "StartDeadlineExceeded"


def test_a_job_that_ends_before_its_pods_are_seen_to_is_waited_for() -> None:
    life = Life(begin(CPU))
    life.until(lambda world: any(p["status"]["phase"] == "Running" for p in world.all("Pod")))
    life.process.see()
    while not all(condition(job, "Complete") for job in life.world.all("Job")):
        life.world.tick()
    before = len(life.world.writes)
    for _ in range(3):
        life.process.step(("EvaluationRun", "Job"))
        life.world.now += timedelta(seconds=1)
    assert len(life.world.writes) == before
    life.to_the_end()
    succeeded(life)
    assert life.world.created["Job"] == 1


def test_one_shard_that_is_not_seen_to_its_end_is_waited_for() -> None:
    life = Life(begin(THREE))
    life.until(phase("Answering"))
    while [pod["status"]["phase"] for pod in at_step(life.world)] != ["Running"] * 3:
        life.world.tick()
        life.work()
    life.process.see()
    stale = at_step(life.world)[0]["metadata"]["name"]
    kept = life.process.seen["Pod"][stale]
    while not condition(life.world.objects[("Job", "trial-answer")], "Complete"):
        life.world.tick()
    life.process.see()
    life.process.seen["Pod"][stale] = kept
    life.process.step(())
    assert life.world.status["phase"] == "Answering"
    life.to_the_end()
    assert life.world.status["answers"]["computed"] == REQUESTS


@pytest.mark.parametrize("late", ["trial-prepare", "trial-run", "trial-score"])
def test_a_job_that_another_leader_created_late_is_stopped(late: str) -> None:
    life = Life(begin(THREE, fates={"answer": [STUCK] * 3}))
    life.until(phase("Answering"))
    job = {**life.world.get("Job", "trial-answer")}
    job["metadata"] = {
        "name": late,
        "labels": job["metadata"]["labels"],
        "ownerReferences": job["metadata"]["ownerReferences"],
    }
    job.pop("status", None)
    if late == "trial-prepare":
        life.world.remove("Job", late)
        life.world.tick()
        life.work()
    life.world.put("Job", job)
    for _ in range(4):
        life.work()
        life.world.tick()
    assert late not in names(life.world, "Job")


def test_a_failed_job_is_explained_by_the_pod_that_is_seen_last() -> None:
    life = Life(
        begin({**CPU, "retryLimit": 0}, fates={"all": [Fate(137, exit_reason="OOMKilled")]})
    )
    life.until(lambda world: any(p["status"]["phase"] == "Running" for p in world.all("Pod")))
    life.process.see()
    while not all(condition(job, "Failed") for job in life.world.all("Job")):
        life.world.tick(1)
    life.process.step(("EvaluationRun", "Job"))
    assert life.world.status["phase"] != "Failed"
    assert reason_of(life.to_the_end()) == "OutOfMemory"


def test_pods_that_are_gone_are_counted_once() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK] * 3}))
    life.until(phase("Answering"))
    spent = 0.0
    for number in range(3):
        life.world.tick()
        life.world.tick(100)
        life.work()
        usage = float(life.world.status["usage"]["gpuSeconds"])
        assert usage >= spent + 90
        spent = usage
        life.world.edit_run(suspend=True)
        life.until(lambda world: condition(world.run, "Suspended"))
        if number == 1:  # what is gone is recorded, so a new process knows it
            life.process = Process(life.world, life.config)
        life.rest()
        life.world.edit_run(suspend=False)
        life.until(phase("Answering"))
    life.to_the_end()
    total = float(life.world.status["usage"]["gpuSeconds"])
    assert 320 <= total <= 380
    assert life.world.status["shards"]["ignoredRestarts"] == 3
