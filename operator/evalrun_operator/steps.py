"""The steps of a run, and the Job that stands for each."""

from __future__ import annotations

from dataclasses import dataclass

from evalrun_api.plan import RunPlan
from evalrun_api.status import Phase, Step


@dataclass(frozen=True)
class StepKind:
    """A step as the operator sees it: one Job.

    command: what the runner is told, and the label of Job and pods. suffix: of the Job's name.
    step: as status says it; None for the three in one.
    """

    command: str
    suffix: str
    step: Step | None
    phase: Phase
    holds_accelerators: bool
    indexed: bool


PREPARE = StepKind("prepare", "prepare", "Prepare", "Preparing", False, False)
ANSWER = StepKind("answer", "answer", "Answer", "Answering", True, True)
SCORE = StepKind("score", "score", "Score", "Scoring", False, False)
ALL = StepKind("all", "run", None, "Preparing", False, False)
"""All three in one process: for one shard without accelerators there is nothing to give back."""

PHASES: dict[str, Phase] = {kind.command: kind.phase for kind in (PREPARE, ANSWER, SCORE)}
ANSWERING = frozenset({ANSWER.command, ALL.command})


def steps_of(plan: RunPlan) -> tuple[StepKind, ...]:
    """The Jobs that a run needs, one after another."""
    if plan.shards == 1 and plan.accelerators == 0:
        return (ALL,)
    return (PREPARE, ANSWER, SCORE)


def current(kinds: tuple[StepKind, ...], recorded: str | None) -> StepKind:
    """The step that a status says is at work; the first one if it says none of these."""
    return next((kind for kind in kinds if kind.step and kind.step == recorded), kinds[0])


def following(kinds: tuple[StepKind, ...], kind: StepKind) -> StepKind | None:
    """The step after one; None after the last."""
    position = kinds.index(kind) + 1
    return kinds[position] if position < len(kinds) else None


def job_name(run_name: str, kind: StepKind) -> str:
    """Name of the Job: at most 58 characters, so that pods' names have room for an index."""
    return f"{run_name}-{kind.suffix}"
