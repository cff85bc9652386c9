"""How far a run is, from what its pods say: untrusted, capped, never falling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from evalrun_api.progress import Progress
from evalrun_operator.attempts import Attempt
from evalrun_operator.decisions import MAX_COUNT, Doc
from evalrun_operator.steps import ANSWERING
from evalrun_operator.text import tidy

MAX_BENCHMARKS = 100


def requests_total(attempts: Iterable[Attempt], progress: Mapping[str, Progress]) -> int:
    """Requests of the run: what prepare counted, or the one process that does it all."""
    found = 0
    for attempt in attempts:
        if attempt.message is not None:
            found = max(found, attempt.message.requests_total or 0)
        live = progress.get(attempt.uid)
        if live is not None and attempt.command == "all":
            found = max(found, live.requests_total)
    return found


def progress_status(
    before: Doc,
    attempts: Iterable[Attempt],
    progress: Mapping[str, Progress],
    total: int,
    *,
    answered: bool,
) -> Doc | None:
    """status.progress; None before anything is known.

    before: the last one. total: requests of the run. answered: whether the answering is over.
    """
    total = max(total, before.get("requestsTotal") or 0)
    if not total:
        return None
    done, rate = 0, 0.0
    by_task: dict[str, tuple[int, int]] = {}
    for best, live in _shards(attempts, progress).values():
        done += best
        if live is None:
            continue
        rate += live.requests_per_second
        for task in live.tasks:
            old = by_task.get(task.name, (0, 0))
            by_task[task.name] = (old[0] + task.requests_done, old[1] + task.requests_total)
    done = total if answered else min(max(done, before.get("requestsDone") or 0), total)
    result: Doc = {
        "requestsDone": done,
        "requestsTotal": total,
        "percent": 100 * done // total,
    }
    if rate > 0 and not answered and math.isfinite(rate):
        result["requestsPerSecond"] = f"{rate:.3g}" if rate < 100 else f"{rate:.0f}"
        if done < total:
            result["etaSeconds"] = math.ceil(min((total - done) / rate, MAX_COUNT))
    benchmarks = _benchmarks(before, by_task, answered=answered)
    if benchmarks:
        result["benchmarks"] = benchmarks
    return result


def _shards(
    attempts: Iterable[Attempt], progress: Mapping[str, Progress]
) -> dict[int, tuple[int, Progress | None]]:
    """For each shard the most requests that an attempt of it had done, and what is live."""
    found: dict[int, tuple[int, Progress | None]] = {}
    for attempt in attempts:
        if attempt.command not in ANSWERING:
            continue
        best, live = found.get(attempt.index, (0, None))
        if attempt.message is not None and attempt.state == "Succeeded":
            best = max(best, attempt.message.reused + attempt.message.computed)
        said = progress.get(attempt.uid)
        if said is not None:
            best = max(best, said.requests_done)
            if attempt.state == "Running":
                live = said
        found[attempt.index] = (best, live)
    return found


def _benchmarks(
    before: Doc, by_task: Mapping[str, tuple[int, int]], *, answered: bool
) -> list[Doc]:
    """The same by task; a shard that is done is scraped no more, so nothing may fall."""
    known: dict[str, Doc] = {entry["name"]: dict(entry) for entry in before.get("benchmarks") or ()}
    for name, (done, total) in by_task.items():
        clean = tidy(name, 300)
        if not clean or (clean not in known and len(known) >= MAX_BENCHMARKS):
            continue
        old = known.get(clean, {})
        of_all = min(max(total, old.get("requestsTotal") or 0), MAX_COUNT)
        so_far = min(max(done, old.get("requestsDone") or 0), of_all)
        known[clean] = {"name": clean, "requestsDone": so_far, "requestsTotal": of_all}
    if answered:
        for entry in known.values():
            entry["requestsDone"] = entry["requestsTotal"]
    return list(known.values())
