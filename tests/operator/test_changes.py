"""What a person changes while a run is suspended comes true, though nobody saw it suspended."""

from __future__ import annotations

from typing import Any

import pytest
from lives import CPU, GPU, THREE, Life, at_step, begin, names, phase, succeeded
from world import STUCK, condition

pytestmark = pytest.mark.decisions

CHANGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (GPU, {"parallelism": {"shards": 2}}, "answer"),
    (THREE, {"parallelism": {"shards": 1}}, "answer"),
    (GPU, {"retryLimit": 7}, "answer"),
    (GPU, {"answerPod": {"nodeSelector": {"disk": "fast"}}}, "answer"),
    (CPU, {"parallelism": {"acceleratorsPerShard": 0, "shards": 2}}, "all"),
]


@pytest.mark.parametrize("crash", [None, 1, 2])
@pytest.mark.parametrize(("spec", "change", "step"), CHANGES)
def test_a_change_between_two_looks_begins_the_step_anew(
    spec: dict[str, Any], change: dict[str, Any], step: str, crash: int | None
) -> None:
    life = Life(begin(spec, fates={step: [STUCK] * (3 if spec is THREE else 1)}))
    life.until(lambda world: at_step(world, step) and at_step(world, step)[0]["_worked"])
    life.world.tick(50)
    before = {
        job["metadata"]["uid"] for job in life.world.all("Job") if not condition(job, "Complete")
    }
    life.world.edit_run(suspend=True)
    life.world.edit_run(suspend=False, **change)
    if crash is not None:
        life.world.crash_after = len(life.world.writes) + crash
    life.to_the_end()
    succeeded(life)
    assert before.isdisjoint(job["metadata"]["uid"] for job in life.world.all("Job"))
    assert life.world.status["resumes"] == 1
    assert 50 <= life.world.status["activeSeconds"] <= 200


def test_a_suspension_between_two_looks_that_changed_nothing_disturbs_nobody() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    jobs = life.world.created["Job"]
    life.world.edit_run(suspend=True)
    life.world.edit_run(suspend=False, ttlSecondsAfterFinished=5)
    for _ in range(5):
        life.work()
        life.world.tick()
    assert life.world.created["Job"] == jobs
    assert names(life.world, "Job") == ["trial-answer", "trial-prepare"]
