"""Runs whose Jobs wait in a queue: what they say, what counts, and what a preemption costs."""

from __future__ import annotations

from typing import Any

import pytest
from lives import (
    CPU,
    THREE,
    Life,
    begin,
    phase,
    reason_of,
    reason_of_stall,
    succeeded,
)
from world import STUCK, World, condition

from evalrun_api import reasons
from evalrun_api.names import QUEUE_LABEL, QUEUE_PRIORITY_LABEL
from evalrun_operator.decisions import Word

pytestmark = pytest.mark.decisions

GPU_QUEUE = {"queueName": "gpu"}
BOTH = {"queueName": "gpu", "cpuQueueName": "cpu"}
DAY = 24 * 3600.0
NO_QUOTA = Word("Pending", "insufficient unused quota for nvidia.com/gpu, 1 more needed")
PREEMPTED = Word("Evicted", "Preempted to accommodate a workload", "Preempted")


def has_job(name: str) -> Any:
    return lambda world: ("Job", name) in world.objects


def message_of(status: dict[str, Any]) -> str:
    (ready,) = (entry for entry in status["conditions"] if entry["type"] == "Ready")
    return str(ready["message"])


def hear(life: Life, name: str, word: Word) -> None:
    """Kueue's word about a Job arrives."""
    life.process.words[life.world.objects[("Job", name)]["metadata"]["uid"]] = word


def admit(life: Life, name: str = "trial-answer") -> None:
    life.world.admit(name)
    life.process.words.clear()


def queued(spec: dict[str, Any] = GPU_QUEUE, **fields: Any) -> Life:
    """A life whose answer Job has waited for a minute, and said so."""
    life = Life(begin(spec, **fields))
    life.until(has_job("trial-answer"))
    life.until(phase("Queued"))
    return life


def at_work(life: Life, name: str = "trial-answer", working: str = "Answering") -> Life:
    admit(life, name)
    life.until(phase(working))
    life.world.tick()
    life.world.tick()
    life.work()
    return life


# What is asked for


@pytest.mark.parametrize(
    ("spec", "queues"),
    [
        (GPU_QUEUE, {"prepare": None, "answer": "gpu", "score": None}),
        (BOTH, {"prepare": "cpu", "answer": "gpu", "score": "cpu"}),
        ({"cpuQueueName": "cpu"}, {"prepare": "cpu", "answer": None, "score": "cpu"}),
        ({}, {"prepare": None, "answer": None, "score": None}),
        (CPU | GPU_QUEUE, {"run": "gpu"}),
        (CPU | {"cpuQueueName": "cpu"}, {"run": "cpu"}),
    ],
)
def test_each_job_waits_in_its_own_queue_suspended_and_unqueued_ones_begin_at_once(
    spec: dict[str, Any], queues: dict[str, str | None]
) -> None:
    policy = {"queuePriorityClasses": ["high"]}
    life = Life(begin(spec | {"queuePriorityClassName": "high"}), policy=policy)
    for suffix, queue in queues.items():
        name = f"trial-{suffix}"
        life.until(has_job(name))
        job = life.world.objects[("Job", name)]
        labels = job["metadata"]["labels"]
        assert labels.get(QUEUE_LABEL) == queue
        assert labels.get(QUEUE_PRIORITY_LABEL) == ("high" if queue else None)
        assert job["spec"].get("suspend", False) is (queue is not None)
        assert QUEUE_LABEL not in job["spec"]["template"]["metadata"]["labels"]
        life.world.tick()
        if queue is not None:
            assert life.world.pods_of(job) == []
            admit(life, name)
    life.to_the_end()
    succeeded(life)


def test_a_priority_that_the_policy_does_not_list_is_refused() -> None:
    life = Life(begin(GPU_QUEUE | {"queuePriorityClassName": "high"}))
    status = life.to_the_end()
    assert (status["phase"], reason_of(status)) == ("Failed", reasons.INVALID_SPEC.name)
    assert "spec.queuePriorityClassName: 'high'" in message_of(status)
    assert life.world.all("Job") == []


def test_a_queue_that_admits_at_once_costs_no_write() -> None:
    plain, free = Life(begin({})), Life(begin(BOTH))
    plain.to_the_end()
    waiting: set[str] = set()

    def admit_all(world: World) -> bool:
        for job in world.all("Job"):
            if job["spec"].get("suspend"):
                waiting.add(job["metadata"]["name"])
                world.admit(job["metadata"]["name"])
        return bool(world.status.get("completionTime"))

    free.until(admit_all)
    assert len(waiting) == 3
    assert free.world.counted_writes == plain.world.counted_writes


def test_a_wait_that_is_told_costs_a_status_and_an_event() -> None:
    life = Life(begin(BOTH))
    for suffix in ("prepare", "answer", "score"):
        life.until(has_job(f"trial-{suffix}"))
        life.until(phase("Queued"))
        life.world.tick(60)
        hear(life, f"trial-{suffix}", NO_QUOTA)
        life.work()
        admit(life, f"trial-{suffix}")
    life.to_the_end()
    succeeded(life)
    counted = life.world.counted_writes
    assert len(counted) <= 15 + 3 * 2, counted


# Waiting


def test_a_run_may_wait_for_days_for_nothing_counts_and_nothing_is_written() -> None:
    life = queued(GPU_QUEUE | {"activeDeadlineSeconds": 600, "startDeadlineSeconds": 60})
    spent = life.world.status["activeSeconds"]
    life.rest()
    for _ in range(3):
        life.world.tick(DAY)
        life.rest()
    status = life.world.status
    assert (status["phase"], status["activeSeconds"]) == ("Queued", spent)
    assert reason_of_stall(status) == "Queued"
    assert not condition(life.world.run, "Stalled")
    admit(life)
    status = life.to_the_end()
    succeeded(life)
    assert status["time"]["queue"] > 3 * DAY
    assert status["activeSeconds"] < 120


@pytest.mark.parametrize(
    ("word", "reason", "stalled", "text"),
    [
        (NO_QUOTA, "Queued", False, "waiting in queue gpu: insufficient unused quota"),
        (Word("Pending"), "Queued", False, "waiting in queue gpu"),
        (Word("Unreadable", "its Workload cannot be read"), "Queued", False, "cannot be read"),
        (
            Word("Unusable", "LocalQueue gpu doesn't exist"),
            reasons.QUEUE_UNUSABLE.name,
            True,
            "waiting in queue gpu: LocalQueue gpu doesn't exist",
        ),
        (Word("Absent"), reasons.KUEUE_NOT_INSTALLED.name, True, "the cluster has no Kueue"),
        (Word("Silent"), reasons.NOT_QUEUED.name, True, "no Workload"),
    ],
)
def test_what_a_run_waits_for_is_said_in_kueues_words_and_a_remedy_where_a_person_must_help(
    word: Word, reason: str, stalled: bool, text: str
) -> None:
    life = Life(begin(GPU_QUEUE))
    life.until(has_job("trial-answer"))
    hear(life, "trial-answer", word)
    life.work()
    status = life.world.status
    assert (status["phase"], reason_of(status)) == ("Queued", reason)
    assert text in message_of(status)
    found = condition(life.world.run, "Stalled")
    assert (found is not None) is stalled
    if found is not None:
        assert found["message"].startswith(message_of(status))
        assert len(found["message"]) > len(message_of(status)) + 20
    assert "completionTime" not in status
    admit(life)
    life.to_the_end()
    succeeded(life)


def test_a_word_that_differs_in_numbers_alone_is_no_reason_to_write() -> None:
    life = queued()
    hear(life, "trial-answer", NO_QUOTA)
    life.world.tick(60)
    life.work()
    before = len(life.world.writes)
    for lacking in range(2, 20):
        text = NO_QUOTA.text.replace("1 more", f"{lacking} more")
        hear(life, "trial-answer", Word("Pending", text))
        life.world.tick(60)
        life.work()
    assert life.world.writes[before:] == []
    hear(life, "trial-answer", Word("Pending", "the queue is stopped"))
    life.world.tick(60)
    life.work()
    assert "the queue is stopped" in message_of(life.world.status)


def test_a_new_process_that_knows_no_word_leaves_what_is_said() -> None:
    life = queued()
    hear(life, "trial-answer", Word("Unusable", "LocalQueue gpu doesn't exist"))
    life.work()
    before = life.world.status
    life.process.words.clear()
    life.rest()
    assert life.world.status == before


def test_a_job_that_somebody_suspended_outside_of_any_queue_is_said_with_the_remedy() -> None:
    life = Life(begin({}))
    life.until(has_job("trial-answer"))
    life.world.evict("trial-answer")
    life.until(phase("Queued"))
    stalled = condition(life.world.run, "Stalled")
    assert stalled is not None
    assert stalled["reason"] == reasons.JOB_SUSPENDED.name
    assert "kubectl patch job" in stalled["message"]
    life.world.admit("trial-answer")
    life.to_the_end()
    succeeded(life)


def test_a_person_may_suspend_a_run_that_waits_and_send_it_to_another_queue() -> None:
    life = queued()
    life.world.edit_run(suspend=True)
    life.until(lambda world: condition(world.run, "Suspended"))
    assert ("Job", "trial-answer") not in life.world.objects
    life.world.edit_run(suspend=False, queueName="other")
    life.until(has_job("trial-answer"))
    labels = life.world.objects[("Job", "trial-answer")]["metadata"]["labels"]
    assert labels[QUEUE_LABEL] == "other"
    admit(life)
    status = life.to_the_end()
    succeeded(life)
    assert status["queue"]["name"] == "other"


def test_who_is_evicted_again_and_again_pays_with_progress() -> None:
    life = at_work(queued())
    life.world.evict("trial-answer")
    life.world.tick()
    hear(life, "trial-answer", PREEMPTED)
    life.process.see()
    plan = life.process.decide()
    assert plan
    assert (plan.status or {})["phase"] == "Queued"
    assert (plan.urgent, plan.charged) == (True, True)


# Preemption


def evicted(life: Life, word: Word = PREEMPTED) -> Life:
    """Its quota is taken back, and Kueue says why."""
    hear(life, "trial-answer", word)
    life.world.evict("trial-answer")
    life.world.tick()
    life.work()
    return life


def test_a_preempted_run_says_so_once_and_goes_on_where_it_was() -> None:
    life = at_work(queued(THREE | GPU_QUEUE, fates={"answer": [STUCK] * 3}))
    evicted(life)
    status = life.world.status
    assert (status["phase"], reason_of(status)) == ("Queued", "Preempted")
    assert message_of(status).startswith("preempted in queue gpu, waiting to go on: Preempted to")
    assert not condition(life.world.run, "Stalled")
    life.rest()
    assert life.world.writes.count("event Preempted") == 1
    admit(life)
    status = life.to_the_end()
    succeeded(life)
    assert status["queue"]["evictions"] == 1
    assert status["shards"]["ignoredRestarts"] == 3
    assert status["shards"]["restarts"] == 0
    assert "resumes" not in status


@pytest.mark.parametrize("told", [True, False])
def test_a_stop_for_which_kueue_gives_no_reason_is_told_after_a_while(told: bool) -> None:
    life = at_work(queued(GPU_QUEUE, fates={"answer": [STUCK]}))
    life.world.evict("trial-answer")
    life.world.tick(1)
    life.work()
    assert life.world.status["phase"] == "Answering"
    if told:
        hear(life, "trial-answer", PREEMPTED)
    else:
        life.world.tick(10)
    life.work()
    assert reason_of(life.world.status) == ("Preempted" if told else "Evicted")


def test_preemptions_use_up_no_budget() -> None:
    life = Life(begin(THREE | GPU_QUEUE, fates={"answer": [STUCK] * 30}), maxIgnoredRestarts=1)
    life.until(has_job("trial-answer"))
    for _ in range(10):
        at_work(life)
        evicted(life)
        life.rest()
    admit(life)
    status = life.to_the_end()
    succeeded(life)
    assert status["queue"]["evictions"] == 10
    assert status["gonePods"]["disruptions"] == 30


def test_a_preemption_that_nobody_looked_at_is_counted_and_uses_up_no_budget() -> None:
    life = Life(begin(THREE | GPU_QUEUE, fates={"answer": [STUCK] * 6}), maxIgnoredRestarts=1)
    life.until(has_job("trial-answer"))
    for _ in range(2):
        at_work(life)
        life.world.tick(60)  # such a count can wait for its turn to be written
        life.work()
        life.world.evict("trial-answer")
        life.world.tick(2)
        life.process.see(["Pod"])  # of the Job alone nothing is heard
        life.world.tick(2)
        life.process.see(["Pod"])
        admit(life)
        life.world.tick(2)
    status = life.to_the_end()
    succeeded(life)
    assert status["queue"]["evictions"] == 2
    assert status["gonePods"]["disruptions"] == 6


def test_the_time_before_each_preemption_counts_against_the_deadline() -> None:
    spec = GPU_QUEUE | {"activeDeadlineSeconds": 200}
    life = at_work(queued(spec, fates={"answer": [STUCK] * 9}))
    for _ in range(2):
        for _ in range(10):
            life.world.tick()
            life.work()
        evicted(life)
        life.world.tick(DAY)
        life.work()
        assert life.world.status["phase"] == "Queued"
        at_work(life)
    status = life.to_the_end()
    assert (status["phase"], reason_of(status)) == ("Failed", reasons.DEADLINE_EXCEEDED.name)
    assert 200 <= status["activeSeconds"] <= 210


def test_a_crash_after_any_write_counts_a_preemption_once() -> None:
    def live(crash_after: int | None) -> Life:
        life = Life(begin(GPU_QUEUE, crash_after=crash_after, fates={"answer": [STUCK]}))
        life.until(has_job("trial-answer"))
        life.until(phase("Queued"))
        at_work(life)
        life.world.evict("trial-answer")
        life.until(phase("Queued"))
        life.world.tick(DAY)
        life.work()
        admit(life)
        life.to_the_end()
        return life

    calm = live(None)
    assert calm.world.status["queue"]["evictions"] == 1
    for after in range(1, len(calm.world.writes) + 1):
        life = live(after)
        succeeded(life)
        assert life.crashes == 1
        assert life.world.status["queue"]["evictions"] == 1
        for name in ("activeSeconds", "time"):
            assert life.world.status[name] == calm.world.status[name]
        assert life.world.created["Job"] == 3
