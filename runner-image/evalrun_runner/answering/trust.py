"""What a run's answers are worth as a whole: whether its scores may be trusted, and how exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_api.journal import ErrorClass
from evalrun_api.lock import Lock, TaskLock
from evalrun_api.manifest import AnswerCounts, Circumstances, Determinism, TaskAnswers
from evalrun_api.plan import RunPlan
from evalrun_runner.journal.reading import Answer


@dataclass
class Tally:
    """The answers that were scored: how many failed and how, and how the others were made."""

    errors: dict[str, Counter[ErrorClass]] = field(default_factory=dict)
    smaller_batch: int = 0
    asked_again: int = 0
    devices: set[str] = field(default_factory=set)

    def take(self, task: str, answer: Answer) -> None:
        """Take in one answer of a task."""
        if answer.device is not None:
            self.devices.add(answer.device)
        if answer.error is not None:
            self.errors.setdefault(task, Counter())[answer.error] += 1
            return
        self.smaller_batch += answer.batch is not None
        self.asked_again += answer.attempts > 1

    @property
    def invalid(self) -> Counter[str]:
        """Failed answers by task."""
        return Counter({task: errors.total() for task, errors in self.errors.items()})

    @property
    def by_class(self) -> dict[ErrorClass, int]:
        """Failed answers of all tasks by class."""
        found: Counter[ErrorClass] = Counter()
        for errors in self.errors.values():
            found.update(errors)
        return dict(found)

    @property
    def circumstances(self) -> Circumstances:
        """How answers were made otherwise than planned."""
        return Circumstances(
            smaller_batch=self.smaller_batch,
            asked_again=self.asked_again,
            devices=sorted(self.devices),
        )

    @property
    def is_mixed(self) -> bool:
        """Whether circumstances that were not planned can have moved an answer.

        A request that gave an answer only when asked again counts at batch 1, too: the same
        question had two outcomes, so something else than the question decided.
        """
        return bool(self.smaller_batch or self.asked_again or len(self.devices) > 1)


def is_trusted(
    plan: RunPlan, task: TaskLock, tally: Tally, said: Callable[[str], str | None]
) -> bool:
    """Whether a task's answers support its score; fails the run where the plan says so.

    said: what the backend said of a failed answer of a task, if it said anything.
    """
    errors = tally.errors.get(task.name, Counter())
    count, allowed = errors.total(), plan.integrity.max_invalid_fraction
    all_invalid = count == task.requests
    if count <= allowed * task.requests and not all_invalid:
        return True
    # A benchmark without one answer has no score to mark.
    if plan.integrity.on_violation == "Mark" and not all_invalid:
        return False
    classes = ", ".join(f"{name}: {number}" for name, number in errors.most_common())
    what = (
        f"{count} of {task.requests} answers are empty or failed ({classes}); "
        f"integrity.maxInvalidFraction is {allowed:g}"
    )
    if words := said(task.name):
        what += f". The backend said: {words}"
    raise fail(reasons.INVALID_ANSWERS, f"benchmark {task.name}", what)


def are_trusted(plan: RunPlan, lock: Lock, tally: Tally, said: Callable[[str], str | None]) -> bool:
    """Whether every task's answers support its score."""
    trusted = True
    for task in (task for group in lock.groups for task in group.tasks):
        trusted = is_trusted(plan, task, tally, said) and trusted  # each may fail the run
    return trusted


def determinism(plan: RunPlan, lock: Lock, tally: Tally) -> Determinism:
    """What could still move an answer of this run."""
    if plan.is_remote:
        return "Remote"
    if any(task.sampled for group in lock.groups for task in group.tasks):
        return "Sampled"
    if tally.is_mixed:
        return "Mixed"
    return "Exact" if plan.batch_size == 1 else "Batched"


def answer_counts(lock: Lock, tally: Tally, reused: int, computed: int) -> AnswerCounts:
    """Where all answers came from. reused, computed: as this process counted them."""
    total, invalid = lock.requests_total, tally.invalid
    return AnswerCounts(
        total=total,
        # A score step of its own has computed nothing: all it scores was there before.
        reused=total - computed if reused + computed < total else reused,
        computed=computed,
        invalid=invalid.total(),
        errors=tally.by_class,
        tasks=[
            TaskAnswers(
                task=task.name,
                requests=task.requests,
                invalid=invalid[task.name],
                errors=dict(tally.errors.get(task.name, {})),
            )
            for group in lock.groups
            for task in group.tasks
        ],
    )
