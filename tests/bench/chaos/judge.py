"""What must not have happened, looked for in a history. Pure; each function names every case."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from bench.chaos.history import JobRecord, RunRecord, RunVersion

WRITES: Final = 15
WRITES_FOR_EACH: Final = 4
WRITES_A_MINUTE: Final = 2
COUNTERS: Final[tuple[tuple[str, ...], ...]] = (
    ("resumes",),
    ("activeSeconds",),
    ("shards", "restarts"),
    ("shards", "ignoredRestarts"),
    ("shards", "workerRestarts"),
    ("gonePods", "failures"),
    ("gonePods", "disruptions"),
    ("progress", "requestsDone"),
    ("progress", "requestsTotal"),
    ("answers", "computed"),
    ("usage", "gpuSeconds"),
    ("usage", "gpuIdleSeconds"),
)


@dataclass(frozen=True)
class Expected:
    """How a run is to end. steps: labels of the Jobs that it needs for that."""

    phase: str
    steps: frozenset[str]
    counted_failures: int


def duplicates(run: RunRecord) -> list[str]:
    """Work that was begun twice.

    Two Jobs of the run were at work at the same time: the later one was created before the earlier
    had ended (Complete, Failed) or was gone; one that is being deleted is still at work. Or a
    step's Job was created again, and since it had been created before nobody had suspended or
    resumed the run, nor deleted the earlier Job by hand; nor was the earlier one made from other
    execution fields, for a run that somebody changed while its creation was under way.
    """
    found = []
    jobs = sorted((job for job in run.jobs.values() if job.versions), key=lambda job: job.created)
    for number, later in enumerate(jobs):
        for earlier in jobs[:number]:
            if earlier.over is None or earlier.over > later.created:
                found.append(f"{run}: {later.name} was created while {earlier.name} was at work")
    toggles = [
        after.version for before, after in pairwise(run.versions) if before.suspend != after.suspend
    ]
    for step in {job.step for job in jobs}:
        same = [job for job in jobs if job.step == step]
        for first, second in pairwise(same):
            toggled = any(first.created < version < second.created for version in toggles)
            changed = first.execution != second.execution
            if not (toggled or first.by_hand or changed):
                found.append(f"{run}: {second.name} was created again for no reason")
    return found


def after_the_end(run: RunRecord) -> list[str]:
    """Jobs that were created for a run that had its outcome.

    One that was deleted has none: a create may be under way then, and garbage collection takes what
    it makes (`left_behind`).
    """
    ended = next((version.version for version in run.versions if version.ended), math.inf)
    late = [job for job in run.jobs.values() if job.versions and job.created > ended]
    return [f"{run}: {job.name} was created after the run's end" for job in late]


def lost(run: RunRecord, expected: Expected) -> list[str]:
    """Whether the run did not come to the end that it was to come to, or skipped a step."""
    last = run.last
    if last is None or not last.ended:
        at = (last.status if last else {}).get("phase")
        return [f"{run}: has not ended, it is {at}: {_jobs(run.jobs.values())}"]
    phase = last.status.get("phase")
    if phase != expected.phase:
        said = [c.get("message") for c in last.status.get("conditions", ()) if c["type"] == "Ready"]
        return [f"{run}: ended as {phase}, not as {expected.phase}: {said}"]
    done = {job.step for job in run.jobs.values() if job.completed}
    missing = sorted(expected.steps - done) if phase == "Succeeded" else []
    return [f"{run}: succeeded without {missing}"] if missing else []


def left_behind(run: RunRecord) -> list[str]:
    """Jobs that outlive a deleted run."""
    last = run.last
    if last is None or not last.gone:
        return []
    there = [job for job in run.jobs.values() if not job.versions[-1].gone]
    return [f"{run}: is gone, and its Job {job.name} is not" for job in there]


def terminal_changed(run: RunRecord) -> list[str]:
    """What changed of a status that has a completionTime, but for the generation it has seen."""
    found = []
    for before, after in pairwise(run.versions):
        if before.ended and _outcome(before) != _outcome(after):
            changed = {
                key
                for key in {*before.status, *after.status}
                if before.status.get(key) != after.status.get(key)
            }
            found.append(f"{run}: its outcome changed: {sorted(changed)}")
    return found


def counters_fell(run: RunRecord) -> list[str]:
    """Counters that became smaller, or vanished."""
    found = []
    for before, after in pairwise(run.versions):
        for path in COUNTERS:
            old, new = _at(before.status, path), _at(after.status, path)
            if old is not None and (new is None or float(new) < float(old)):
                found.append(f"{run}: {'.'.join(path)} fell from {old} to {new}")
    return found


def miscounted(run: RunRecord, expected: Expected) -> list[str]:
    """Counts that are more than there was to count: failures of pods, a person's resumes."""
    status = run.last.status if run.last is not None else {}
    resumed = sum(before.suspend and not after.suspend for before, after in pairwise(run.versions))
    found = []
    for name, counted, most in (
        ("shards.restarts", _at(status, ("shards", "restarts")), expected.counted_failures),
        ("resumes", status.get("resumes"), resumed),
    ):
        if int(counted or 0) > most:
            found.append(f"{run}: {name} is {counted}, and there were {most} at most")
    return found


def allowed_writes(lives: Iterable[RunRecord]) -> int:
    """How many writes the runs of one name may have cost, one after another.

    15 in a life, 4 for each time that somebody suspended or resumed it and for each counted
    failure, and 2 a minute. A Job that somebody deletes is as much work as one that fails.
    """
    allowed = 0
    for run in lives:
        toggles = sum(before.suspend != after.suspend for before, after in pairwise(run.versions))
        status = run.last.status if run.last is not None else {}
        failures = int(_at(status, ("shards", "restarts")) or 0)
        by_hand = sum(job.by_hand for job in run.jobs.values())
        allowed += WRITES + WRITES_FOR_EACH * (toggles + failures + by_hand)
        allowed += WRITES_A_MINUTE * math.ceil(_minutes(status))
    return allowed


def too_many_writes(writes: Mapping[str, int], lives: Mapping[str, list[RunRecord]]) -> list[str]:
    """Names (NAMESPACE/NAME) whose runs cost more than they may."""
    return [
        f"{name}: {count} writes, {allowed} are allowed"
        for name, count in sorted(writes.items())
        if count > (allowed := allowed_writes(lives.get(name, ())))
    ]


def _minutes(status: dict[str, Any]) -> float:
    begun, ended = status.get("startTime"), status.get("completionTime")
    if not begun or not ended:
        return 0.0
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds() / 60


def _outcome(version: RunVersion) -> dict[str, Any]:
    return {key: value for key, value in version.status.items() if key != "observedGeneration"}


def _at(status: dict[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = status
    for part in path:
        found = (found or {}).get(part)
    return found


def _jobs(jobs: Iterable[JobRecord]) -> list[str]:
    return [
        f"{job.name} {'gone' if job.versions[-1].gone else job.versions[-1].condition or 'at work'}"
        for job in jobs
        if job.versions
    ]
