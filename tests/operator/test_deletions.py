"""What is deleted by hand or in time, and runs that have ended."""

from __future__ import annotations

from typing import Any

import pytest
from lives import (
    CPU,
    GPU,
    SHAPES,
    THREE,
    Life,
    begin,
    names,
    phase,
    reason_of,
    succeeded,
)
from world import STUCK, Crashed
from world_process import Process

pytestmark = pytest.mark.decisions


@SHAPES
@pytest.mark.parametrize("kind", ["Job", "Pod", "ConfigMap"])
def test_what_is_deleted_by_hand_at_any_moment_is_made_good(
    spec: dict[str, Any], kind: str
) -> None:
    for moment in range(1, 18):
        life = Life(begin(spec))
        for _ in range(moment):
            life.work()
            life.world.tick()
        for name in names(life.world, kind):
            life.world.remove(kind, name)
        if moment % 2:
            life.process = Process(life.world, life.config)
        life.to_the_end()
        succeeded(life)


def test_a_step_is_repeated_only_when_the_one_after_it_has_stopped() -> None:
    # The plan, a Job, a status, an event, and the next Job: no status tells of that one.
    life = Life(begin(GPU, fates={"answer": [STUCK]}, crash_after=5))
    with pytest.raises(Crashed):
        for _ in range(20):
            life.process.work()
            life.world.tick()
    life.world.crash_after = None
    assert "trial-answer" in names(life.world, "Job")
    life.world.tick()
    life.world.remove("Job", "trial-prepare")
    life.world.tick()
    life.world.jobs_alive = 0  # the finished one counts as none
    life.process = Process(life.world, life.config)
    life.to_the_end()
    succeeded(life)


def test_a_finished_run_stays_finished_when_its_jobs_are_deleted() -> None:
    life = Life(begin(THREE))
    before = dict(life.to_the_end())
    for name in names(life.world, "Job"):
        life.world.remove("Job", name)
    life.rest()
    assert life.world.status == before
    assert names(life.world, "Job") == []


def test_a_pod_that_always_vanishes_before_it_is_heard_ends_the_run() -> None:
    life = Life(begin(CPU), maxIgnoredRestarts=3)
    for _ in range(400):
        life.work()
        if life.world.status.get("completionTime"):
            break
        life.world.tick(20)
        life.process.see(["Pod"])  # as it ended: no disruption that the ledger would count
        for pod in list(life.world.all("Pod")):
            if pod["status"]["phase"] == "Succeeded":
                del life.world.objects[("Pod", pod["metadata"]["name"])]
    assert reason_of(life.world.status) == "Disrupted"
    assert life.world.created["Job"] <= 6


def test_a_deleted_run_is_left_to_the_garbage_collector() -> None:
    life = Life(begin(THREE, fates={"answer": [STUCK] * 3}))
    life.until(phase("Answering"))
    life.world.remove("EvaluationRun", "trial")
    before = len(life.world.writes)
    for _ in range(5):
        life.work()
        life.world.tick()
    assert life.world.objects == {}
    assert len(life.world.writes) == before


def test_a_run_s_jobs_go_when_their_time_is_over_and_its_results_stay() -> None:
    life = Life(begin({**THREE, "ttlSecondsAfterFinished": 3600}))
    life.until(phase("Succeeded"))
    life.world.tick(3500)
    life.work()
    assert len(names(life.world, "Job")) == 3
    plan = life.process.decide()
    assert plan is not None
    assert 0 < (plan.requeue_after or 0) <= 100
    life.world.tick(101)
    life.work()
    life.rest()
    assert names(life.world, "Job") == names(life.world, "Pod") == []
    succeeded(life)


def test_a_run_that_is_refused_half_way_stops_what_is_at_work() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.world.edit_run(model={"profile": "llava_hf", "source": {}})
    life.work()
    assert reason_of(life.world.status) == "InvalidSpec"
    life.world.tick()
    assert names(life.world, "Job") == ["trial-prepare"]


def test_an_edit_of_a_finished_run_is_seen_and_changes_nothing() -> None:
    life = Life(begin(CPU))
    before = dict(life.to_the_end())
    life.world.edit_run(suspend=True)
    life.rest()
    assert life.world.status == {**before, "observedGeneration": 2}
