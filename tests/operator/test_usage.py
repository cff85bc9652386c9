"""Where time and money went: accelerators held and idle, stages, workers, judges."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from lives import GPU, THREE, Life, begin, condition, phase
from world import STUCK, Fate, World
from world_process import Process

from evalrun_api.judge import JudgeUsage
from evalrun_api.plan import RunIdentity
from evalrun_api.progress import Progress
from evalrun_api.status import Score, StageSeconds
from evalrun_api.termination import TerminationMessage
from evalrun_operator.attempts import attempt_of
from evalrun_operator.decisions import Ledger
from evalrun_operator.usage import contribution, record, recorded, settle, time_status

pytestmark = pytest.mark.decisions

RUN = RunIdentity(namespace="team", name="trial", uid="uid-1")
NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)


def said(step: Any = "answer", **fields: Any) -> str:
    message = TerminationMessage(
        run=RUN, step=step, **{"outcome": "Succeeded", "reason": "Completed", **fields}
    )
    return message.encode().decode()


def at(seconds: int) -> str:
    return f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z"


def pod(
    state: dict[str, Any], status_phase: str = "Running", gpus: int = 2, bound: int | None = 10
) -> dict[str, Any]:
    """A pod that was made at 0 s and bound at `bound` s."""
    entry = {"type": "PodScheduled", "status": "True"}
    conditions = [entry | {"lastTransitionTime": at(bound)}] if bound is not None else []
    return {
        "metadata": {
            "name": "p",
            "uid": "p",
            "labels": {"lmms-eval.io/run-uid": "uid-1", "lmms-eval.io/step": "answer"},
            "annotations": {"lmms-eval.io/accelerators": str(gpus)},
            "creationTimestamp": at(0),
        },
        "status": {
            "phase": status_phase,
            "conditions": conditions,
            "containerStatuses": [{"name": "runner", "state": state}],
        },
    }


def ended(message: str, code: int = 0, started: int = 30, finished: int = 130) -> dict[str, Any]:
    state = {
        "terminated": {
            "exitCode": code,
            "reason": "Error" if code else "Completed",
            "startedAt": at(started),
            "finishedAt": at(finished),
            "message": message,
        }
    }
    return pod(state, "Failed" if code else "Succeeded")


RUNNING = {"running": {"startedAt": at(30)}}
LAST = said(outcome="Running", reason="Running", seconds=StageSeconds(load=20, generate=40))
CASES: list[tuple[str, dict[str, Any], float, float]] = [
    ("answered for 80 of 120 s", ended(said(seconds=StageSeconds(load=15, generate=80))), 240, 80),
    ("killed, with what it last wrote", ended(LAST, 137), 240, 160),
    ("killed before it wrote of any stage", ended(said(outcome="Running", reason="R"), 137), 240,
     240),
    ("left no word: only its wait is known", ended("", 137), 240, 40),
    ("another run's word", ended(said(seconds=StageSeconds(generate=9)).replace("uid-1", "uid-2")),
     240, 40),
    ("says it answered for longer than it was there",
     ended(said(seconds=StageSeconds(generate=9999))), 240, 40),
    ("at work", pod(RUNNING), 2 * 3590, 40),
    ("pulls its image", pod({"waiting": {"reason": "ContainerCreating"}}, "Pending"), 7180, 7180),
    ("is not on a node", pod({}, "Pending", bound=None), 0, 0),
    ("without accelerators", pod(RUNNING, gpus=0), 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "held", "idle"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_idle_is_what_is_held_without_answering(
    document: dict[str, Any], held: float, idle: float
) -> None:
    found = contribution(attempt_of(document, "uid-1"), NOW)
    assert (found.gpu_seconds, found.gpu_idle_seconds) == (held, idle)
    assert found.gpu_idle_seconds <= found.gpu_seconds


def test_a_pod_that_vanished_leaves_what_it_contributed() -> None:
    seconds = StageSeconds(start=5, load=15, generate=80)
    found = settle(ended(said(seconds=seconds, restarts=3), code=1), NOW)
    assert found == Ledger(
        gpu_seconds=240,
        gpu_idle_seconds=80,
        failures=1,
        worker_restarts=3,
        stages={"start": 35, "load": 15, "generate": 80, "idle": 40},
    )
    assert recorded({"gonePods": json.loads(json.dumps(record(found, 0)))}) == found
    assert found.plus(found).minus(found) == found
    assert found.minus(found) == Ledger()


def test_no_count_of_time_falls_where_pods_went_unseen() -> None:
    before = {"load": 50, "generate": 10}
    assert time_status(Ledger(stages={"load": 20, "generate": 30}), before) == {
        "load": 50,
        "generate": 30,
    }
    assert time_status(Ledger(), {}) is None


# In a run


def worked(generate: int, step: Any = "answer", **fields: Any) -> str:
    return said(step, seconds=StageSeconds(load=2, generate=generate), **fields)


def test_time_and_idle_seconds_are_of_all_pods_also_those_that_were_preempted() -> None:
    stopped = worked(3, outcome="Stopped", reason="Stopped")
    fates = {
        "answer": [
            Fate(exit_code=30, disrupted=True, message=stopped),
            *[Fate(message=worked(5))] * 3,
        ]
    }
    life = Life(begin(THREE, fates=fates))
    life.to_the_end()
    status = life.world.status
    assert status["phase"] == "Succeeded"
    assert status["time"]["generate"] == 3 + 3 * 5
    assert status["time"]["load"] == 4 * 2
    held, idle = (float(status["usage"][name]) for name in ("gpuSeconds", "gpuIdleSeconds"))
    assert idle == held - status["time"]["generate"]
    assert status["time"]["idle"] == idle  # one accelerator a pod


def test_what_is_idle_never_falls_and_is_kept_over_suspension_and_a_new_process() -> None:
    fate = Fate(endless=True, message=worked(4, outcome="Stopped", reason="Stopped"))
    life = Life(begin(GPU, fates={"answer": [fate, Fate(message=worked(5))]}))
    life.until(phase("Answering"))
    life.world.tick()
    life.world.tick()
    life.world.edit_run(suspend=True)
    life.work()
    for pod in life.world.all("Pod"):  # the end of a pod is seen before it goes
        life.world.remove("Pod", pod["metadata"]["name"])
        life.world._keep(pod)
    life.work()
    life.until(lambda world: condition(world.run, "Suspended"))
    life.rest()
    before = life.world.status
    assert (before["time"]["load"], before["time"]["generate"]) == (2, 4)
    assert before["gonePods"]["time"] == {"load": 2, "generate": 4, **idle_and_start(before)}
    life.process = Process(life.world, life.config)
    life.world.edit_run(suspend=False)
    life.to_the_end()
    after = life.world.status
    assert (after["time"]["load"], after["time"]["generate"]) == (4, 9)
    held, idle = (float(after["usage"][name]) for name in ("gpuSeconds", "gpuIdleSeconds"))
    assert idle == held - 9


def idle_and_start(status: dict[str, Any]) -> dict[str, int]:
    return {name: status["time"][name] for name in ("idle", "start") if name in status["time"]}


def test_workers_that_were_started_anew_are_counted_at_once_and_never_less() -> None:
    life = Life(begin(GPU, fates={"answer": [Fate(works=4, message=worked(5, restarts=2))]}))
    told: list[int] = []

    def scrape(world: World) -> bool:
        for pod in world.all("Pod"):
            if pod["status"]["phase"] == "Running":
                restarts = min(pod["_worked"], 2)
                live = Progress(step="answer", activity="a", restarts=restarts)
                life.process.progress[pod["metadata"]["uid"]] = live
        told.append(world.status.get("shards", {}).get("workerRestarts", 0))
        return bool(world.status.get("completionTime"))

    life.until(scrape)
    assert told == sorted(told)
    assert life.world.status["shards"]["workerRestarts"] == 2
    assert life.world.status["shards"]["restarts"] == 0


def scored(**fields: Any) -> str:
    score = Score(benchmark="mme", metric="acc", value="0.5")
    return said(
        "score",
        scores=[score],
        results_uri="s3://b/manifest.json",
        results_digest="d" * 64,
        answers_digest="a" * 64,
        **{"trusted": True, **fields},
    )


def ends_with(message: str, **fate: Any) -> dict[str, Any]:
    life = Life(begin({**GPU, "retryLimit": 0}, fates={"score": [Fate(message=message, **fate)]}))
    return life.to_the_end()


@pytest.mark.parametrize("trusted", [True, False])
def test_invalid_answers_are_told_by_class(trusted: bool) -> None:
    status = ends_with(
        scored(trusted=trusted, invalid=9, errors={"Empty": 7, "OutOfMemory": 2, "Stalled": 0})
    )
    assert status["answers"]["invalid"] == 9
    assert status["answers"]["errors"] == {"Empty": 7, "OutOfMemory": 2}
    (entry,) = (e for e in status["conditions"] if e["type"] == "Trusted")
    assert entry["status"] == str(trusted)
    assert "9 answers are empty or failed (7 Empty, 2 OutOfMemory)" in entry["message"]
    assert ("no more than" if trusted else ": more than") in entry["message"]


def test_a_run_that_fails_for_invalid_answers_tells_them_too() -> None:
    message = said(
        "score",
        outcome="Failed",
        reason="InvalidAnswers",
        message="benchmark mme: all empty",
        errors={"Empty": 120},
        invalid=120,
    )
    status = ends_with(message, exit_code=12)
    assert status["phase"] == "Failed"
    assert status["answers"]["errors"] == {"Empty": 120}


def test_answers_that_a_shard_failed_at_count_only_once_they_are_scored() -> None:
    failed = worked(5, errors={"Crashed": 3}, answers_digest="a" * 64, answered_before=0)
    life = Life(begin(GPU, fates={"answer": [Fate(message=failed)], "score": [STUCK]}))
    life.until(phase("Scoring"))
    assert "errors" not in life.world.status["answers"]


def test_circumstances_that_were_not_planned_are_told_as_such() -> None:
    assert ends_with(scored(determinism="Mixed"))["provenance"]["determinism"] == "Mixed"


def test_what_judging_took_is_told_once_though_the_score_step_was_killed() -> None:
    killed = said(
        "score", outcome="Running", reason="Running", judge=JudgeUsage(requests=40, cost=0.5)
    )
    done = scored(judge=JudgeUsage(requests=100, cost=1.25, recorded=40))
    fates = {"score": [Fate(exit_code=137, message=killed), Fate(message=done)]}
    life = Life(begin(GPU, fates=fates))
    status = life.to_the_end()
    assert status["phase"] == "Succeeded"
    assert (status["usage"]["judgeRequests"], status["usage"]["judgeCost"]) == (100, "1.2500")
