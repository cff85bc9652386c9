"""Runs in every state that the verdicts speak of, as the operator's own code left them.

They are played in the small world of tests/operator: no status is written here by hand but the
one condition that no operator writes yet.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fleet import Fleet
from lives import GPU, TRIAL, Life, begin, phase
from world import STUCK, Fate, World, condition
from world_documents import run_document

from evalrun_api.termination import TerminationMessage

Doc = dict[str, Any]
BENCHMARK = {"benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
TTL = 60


@dataclass(frozen=True)
class Row:
    """A state, as the table of verdicts names it, and an object in it."""

    name: str
    document: Doc

    @property
    def phase(self) -> str:
        """As its status says; empty without one."""
        return str((self.document.get("status") or {}).get("phase") or "")


class Doubted(World):
    """A world in which more answers are invalid than the run allows, and the run only marks it."""

    def _message(self, pod: Doc, fate: Fate) -> str:
        message = TerminationMessage.model_validate_json(super()._message(pod, fate))
        if message.scores:
            message = message.model_copy(update={"trusted": False, "errors": {"Empty": 9}})
        return message.encode().decode()


def rows() -> Iterator[Row]:
    """All states, in the order of a life."""
    yield Row("has just been applied", begin(GPU).run)
    yield from _waiting()
    yield from _at_work()
    yield from _suspended()
    yield from _ended()
    yield Row("is a Benchmark", _benchmark())


def _waiting() -> Iterator[Row]:
    yield _row("waits for its Benchmark", Life(begin({**GPU, **BENCHMARK})), phase("Pending"))
    fleet = Fleet({"maxActiveRuns": 1})
    for name in ("first", "second"):
        fleet.apply(name)
    fleet.work()
    yield Row("waits for a cap", copy.deepcopy(fleet.run("second")))
    queued = Life(begin({"queueName": "gpu"}))
    yield _row("waits in a queue of Kueue", queued, phase("Queued"))


def _at_work() -> Iterator[Row]:
    life = Life(begin(GPU, fates={"answer": [STUCK], "score": [STUCK]}))
    yield _row("is prepared", life, phase("Preparing"))
    yield _row("answers", life, phase("Answering"))
    life.world.edit_run(suspend=True)
    yield _row("was edited, which the operator has not seen", life)
    scoring = Life(begin(GPU, fates={"score": [STUCK]}))
    yield _row("is scored", scoring, phase("Scoring"))
    scoring.world.run["metadata"]["deletionTimestamp"] = "2026-01-01T01:00:00Z"
    yield _row("is being deleted", scoring)
    unpullable = Fate(waiting=("ErrImagePull", "no such image"))
    stalled = Life(begin(GPU, fates={"answer": [unpullable]}))
    yield _row("has a pod that cannot start", stalled, lambda world: _holds(world, "Stalled"))


def _suspended() -> Iterator[Row]:
    early = Life(begin({**GPU, "suspend": True}))
    yield _row("is suspended before it begins", early, phase("Suspended"))
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.world.edit_run(suspend=True)
    yield _row("stops", life, phase("Suspended"))
    yield _row("is suspended", life, lambda world: _holds(world, "Suspended"))
    life.world.edit_run(suspend=False)
    yield _row("goes on", life, phase("Answering"))


def _ended() -> Iterator[Row]:
    life = Life(begin({**GPU, "ttlSecondsAfterFinished": TTL}))
    yield _row("has its results", life, phase("Succeeded"))
    gated = copy.deepcopy(life.world.run)
    # Gates are not evaluated yet; this is how they will be told (evalrun_api.status).
    failed = {"type": "Passed", "status": "False", "reason": "GateFailed", "message": "acc < 0.6"}
    gated["status"]["conditions"].append(failed)
    yield Row("did not pass a gate", gated)
    life.world.tick(TTL + 1)
    life.work()
    life.rest()
    assert life.world.all("Job") == []
    yield _row("has its results, and its TTL is over", life)
    life.world.edit_run(ttlSecondsAfterFinished=2 * TTL)
    yield _row("has ended and was edited, which the operator has not seen", life)
    life.work()
    yield _row("has ended and was edited, which the operator has seen", life)
    world = Doubted()
    world.put("EvaluationRun", run_document(**GPU, integrity={"onViolation": "Mark"}))
    yield _row("has scores that are not trusted", Life(world), phase("Succeeded"))
    broken = Life(begin(GPU, fates={"answer": [Fate(exit_code=12, exit_reason="Error")]}))
    yield _row("failed", broken, phase("Failed"))
    refused = Life(begin({**GPU, "answerPod": {"image": "mine:1"}}))
    yield _row("was refused", refused, phase("Failed"))


def _row(name: str, life: Life, done: Callable[[World], Any] | None = None) -> Row:
    """The run as it is, once that is true."""
    if done is not None:
        life.until(done)
    return Row(name, copy.deepcopy(life.world.run))


def _holds(world: World, kind: str) -> bool:
    return condition(world.run, kind) is not None


def _benchmark() -> Doc:
    found: Doc = json.loads(json.dumps(TRIAL["document"]))
    found["metadata"] |= {"namespace": "team", "generation": 1}
    return found
