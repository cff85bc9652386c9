"""Several workers as one: their counts, errors and times, over all their lives. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from evalrun_api.journal import ErrorClass
from evalrun_runner.workers.mailbox import WorkerState


class Counts(NamedTuple):
    """Of one task: requests of the share, answers that were there, answers computed since."""

    total: int
    reused: int
    computed: int


@dataclass
class Lives:
    """One worker over all its lives.

    What a life finds in the journal was partly computed by the life before; so what was there
    before the first is kept, and the rest counts as computed.
    """

    errors: Counter[ErrorClass] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    store_failures: Counter[str] = field(default_factory=Counter)
    now: WorkerState = field(default_factory=WorkerState)
    _found: dict[str, int] = field(default_factory=dict)
    _done: dict[str, int] = field(default_factory=dict)
    _totals: dict[str, int] = field(default_factory=dict)

    def update(self, state: WorkerState) -> None:
        """The life that is going on says how far it is."""
        self.now = state
        for task in state.tasks:
            self._totals[task.name] = task.total
            self._found.setdefault(task.name, task.reused)
            done = task.reused + task.computed
            self._done[task.name] = max(done, self._done.get(task.name, 0))

    def end_life(self) -> None:
        """It is over; the next one counts anew."""
        self.errors.update(self.now.errors)
        self.seconds.update(self.now.seconds)
        self.store_failures.update(self.now.store_failures)
        self.now = WorkerState()

    def counts(self) -> dict[str, Counts]:
        """By task, for all lives."""
        return {
            name: Counts(total, self._found[name], self._done[name] - self._found[name])
            for name, total in self._totals.items()
        }


@dataclass(frozen=True)
class Sums:
    """All workers. seconds: the mean over them, by stage."""

    tasks: dict[str, Counts]
    errors: dict[ErrorClass, int]
    seconds: dict[str, float]
    activity: str
    store_failures: dict[str, int] = field(default_factory=dict)


def merge(workers: Sequence[Lives]) -> Sums:
    """The workers of a pod as if they were one process."""
    tasks: dict[str, Counts] = {}
    errors: Counter[ErrorClass] = Counter()
    seconds: Counter[str] = Counter()
    store_failures: Counter[str] = Counter()
    for worker in workers:
        for name, mine in worker.counts().items():
            before = tasks.get(name, Counts(0, 0, 0))
            tasks[name] = Counts(*(a + b for a, b in zip(before, mine, strict=True)))
        errors.update(worker.errors)
        errors.update(worker.now.errors)
        store_failures.update(worker.store_failures)
        store_failures.update(worker.now.store_failures)
        for spent in (worker.seconds, worker.now.seconds):
            for stage, length in spent.items():
                seconds[stage] += length  # type: ignore[assignment]  # a Counter may hold floats
    mean = {stage: length / len(workers) for stage, length in seconds.items()}
    activity = _activity([worker.now.activity for worker in workers])
    return Sums(tasks, dict(errors), mean, activity, dict(store_failures))


def _activity(said: Sequence[str]) -> str:
    """What most do, and how many of them where they differ."""
    counted = Counter(said).most_common()
    if len(counted) == 1:
        return counted[0][0]
    return ", ".join(f"{what} ({count})" for what, count in counted)[:300]
