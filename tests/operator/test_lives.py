"""Whole lives of runs: what goes well, what a crash or a lost answer changes, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from lives import (
    CPU,
    EIGHT,
    GPU,
    SHAPES,
    STEPS,
    THREE,
    Life,
    begin,
    names,
    phase,
    succeeded,
)
from world import STUCK, Fate, World, condition

from evalrun_api.progress import Progress

pytestmark = pytest.mark.decisions


@pytest.mark.parametrize(
    ("spec", "jobs"),
    [
        (CPU, ["trial-run"]),
        (GPU, ["trial-answer", "trial-prepare", "trial-score"]),
        (THREE, ["trial-answer", "trial-prepare", "trial-score"]),
    ],
    ids=["cpu", "gpu", "three"],
)
def test_a_run_goes_through_its_jobs_to_its_results(spec: dict[str, Any], jobs: list[str]) -> None:
    life = Life(begin(spec))
    life.to_the_end()
    succeeded(life)
    assert names(life.world, "Job") == jobs
    assert names(life.world, "ConfigMap") == ["trial-plan"]
    assert life.world.status["activeSeconds"] == 15 * len(jobs)


@pytest.mark.parametrize("spec", [CPU, GPU, EIGHT], ids=["cpu", "gpu", "eight"])
def test_a_life_takes_at_most_fifteen_writes_however_many_shards(
    spec: dict[str, Any], show_figure: Callable[[str], None]
) -> None:
    life = Life(begin(spec, fates={"all": [Fate(works=3)]}))

    def scrape(world: World) -> bool:
        for pod in world.all("Pod"):
            if pod["status"]["phase"] == "Running":
                step = pod["metadata"]["labels"]["lmms-eval.io/step"]
                step = STEPS[pod["_worked"]] if step == "all" else step
                told = Progress(step=step, activity="at work", requests_done=pod["_worked"])
                life.process.progress[pod["metadata"]["uid"]] = told
        return bool(world.status.get("completionTime"))

    life.until(scrape)
    life.rest()
    succeeded(life)
    counted = life.world.counted_writes
    assert len(counted) <= 15, counted
    show_figure(f"writes of a life, {spec or 'one GPU'}: {len(counted)}, {counted}")


def test_progress_is_written_within_its_budget_alone() -> None:
    life = Life(begin(THREE, fates={"answer": [STUCK] * 3}))
    life.until(phase("Answering"))
    life.world.tick()
    life.world.tick()
    life.work()
    before = len(life.world.writes)
    for second in range(600):
        life.world.now += timedelta(seconds=1)
        for pod in life.world.all("Pod"):
            if pod["status"]["phase"] == "Running":
                told = Progress(step="answer", activity="a", requests_done=second % 40)
                life.process.progress[pod["metadata"]["uid"]] = told
        life.work()
    written = life.world.writes[before:]
    assert set(written) == {"progress"}
    assert len(written) <= 20


# Crashes and lost answers


@SHAPES
def test_a_crash_after_any_write_changes_nothing(spec: dict[str, Any]) -> None:
    life = Life(begin(spec))
    life.to_the_end()
    total = len(life.world.writes)
    for after in range(1, total + 1):
        again = Life(begin(spec, crash_after=after))
        again.to_the_end()
        succeeded(again)
        assert again.crashes == 1
        assert again.world.created["Job"] == life.world.created["Job"]
        assert again.world.status["activeSeconds"] == life.world.status["activeSeconds"]
        assert again.world.status["startTime"]


@SHAPES
def test_a_lost_reply_to_any_write_changes_nothing(spec: dict[str, Any]) -> None:
    life = Life(begin(spec))
    life.to_the_end()
    for after in range(1, len(life.world.writes) + 1):
        again = Life(begin(spec, lose_after=after))
        again.to_the_end()
        succeeded(again)
        assert again.world.created["Job"] == life.world.created["Job"]
        assert again.world.status.get("usage") == life.world.status.get("usage")


@SHAPES
def test_a_crash_while_a_run_is_suspended_or_resumed_changes_nothing(spec: dict[str, Any]) -> None:
    def live(crash_after: int | None) -> Life:
        life = Life(begin(spec, crash_after=crash_after, fates={"answer": [STUCK], "all": [STUCK]}))
        working = "Preparing" if spec is CPU else "Answering"
        life.until(phase(working))
        life.world.tick()
        life.world.edit_run(suspend=True)
        life.until(lambda world: condition(world.run, "Suspended"))
        life.world.edit_run(suspend=False)
        life.to_the_end()
        return life

    calm = live(None)
    for after in range(1, len(calm.world.writes) + 1):
        life = live(after)
        succeeded(life)
        assert life.world.status["resumes"] == 1
        assert life.world.status["activeSeconds"] == calm.world.status["activeSeconds"]
        assert life.world.jobs_alive == 1


def test_what_gone_pods_cost_is_counted_once_though_a_reply_is_lost() -> None:
    def live(lose_after: int | None) -> dict[str, Any]:
        life = Life(begin(THREE, lose_after=lose_after, fates={"answer": [STUCK] * 3}))
        life.until(phase("Answering"))
        life.world.tick()
        life.world.edit_run(suspend=True)
        life.until(lambda world: condition(world.run, "Suspended"))
        life.world.edit_run(suspend=False)
        life.to_the_end()
        succeeded(life)
        return {name: life.world.status[name] for name in ("usage", "gonePods", "shards")}

    calm = live(None)
    assert calm["gonePods"]["disruptions"] == 3
    for after in range(1, 20):
        assert live(after) == calm
