"""Whole lives of runs on a played node: memory, writes, and how old progress is when it is told."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from bench.api_client import ApiClient
from bench.control.audit import writes_by_run
from bench.control.documents import runs, runs_path
from bench.control.stage import Stage
from bench.control.witness import Witness
from bench.played_node.fates import SECONDS_ANNOTATION
from cluster.access import until

REQUESTS = 6000
"""Of each run: so many that each second brings something new."""
END_SECONDS = 600.0


@dataclass(frozen=True)
class Lives:
    """runs, shards, and seconds for which each answered.

    at_once: most pods that answered at the same time. rss_mib: most memory of the operator, from
    the first run to the last one's end. gap_s: longest time between two words about a run's
    progress. lag: seconds that progress was old when
    a status told it, p50 and p95. writes: the most that one run cost, and what they were. over: by
    how much a run cost more than 15 and 2 for each minute of its life; 0 if none did.
    """

    runs: int
    shards: int
    seconds: float
    at_once: int
    rss_mib: float
    gap_s: float
    lag_p50_s: float
    lag_p95_s: float
    writes: int
    written: dict[str, int]
    over: float


def lives(stage: Stage, count: int, seconds: float, shards: int = 1) -> Lives:
    """Have so many runs answer at once, until they have ended."""
    namespace = stage.plane.namespace("lives")
    path = runs_path(namespace)
    stage.account()
    memory = 0.0
    with Witness(stage.target, progress=True) as witness:
        told = {SECONDS_ANNOTATION: str(seconds)}
        sent = stage.writer.send(runs(namespace, count, told, shards=shards))
        began = time.monotonic()
        ended = 0
        while ended < count:
            memory = max(memory, stage.resident_mib)
            assert time.monotonic() - began < seconds + END_SECONDS, f"{ended} of {count} ended"
            if time.monotonic() - began > seconds:
                ended = stage.ask(lambda api: _ended(api, path))
            time.sleep(2)
        sent.result()
        starts = stage.ask(lambda api: _answering(api, namespace))
        heard = _heard(witness, starts)
        assert len(heard) == count, f"progress of {len(heard)} of {count} runs was told"
        lags = sorted(_lags(heard, starts, seconds))
    writes = writes_by_run(stage.account(), namespace)
    assert len(writes) == count, f"writes of {len(writes)} of {count} runs"
    most = max(writes.values(), key=lambda one: one.total())
    minutes = stage.ask(lambda api: _minutes(api, path))
    over = max(one.total() - 15 - 2 * minutes[name] for name, one in writes.items())
    return Lives(
        count,
        shards,
        seconds,
        _at_once(starts, seconds),
        memory,
        max(_gaps(heard)),
        lags[len(lags) // 2],
        lags[len(lags) * 95 // 100],
        most.total(),
        dict(Counter(most)),
        max(over, 0.0),
    )


async def _ended(api: ApiClient, path: str) -> int:
    """How many runs have ended. Raises AssertionError for one that failed."""
    items, _ = await api.list(path, {})
    phases = Counter((run.get("status") or {}).get("phase") for run in items)
    assert not phases["Failed"], phases
    return phases["Succeeded"]


async def _minutes(api: ApiClient, path: str) -> dict[str, float]:
    """How long each run's life was, by name."""
    items, _ = await api.list(path, {})
    found = {}
    for run in items:
        begun, ended = (
            datetime.fromisoformat(run["status"][name]) for name in ("startTime", "completionTime")
        )
        found[run["metadata"]["name"]] = (ended - begun).total_seconds() / 60
    return found


async def _answering(api: ApiClient, namespace: str) -> dict[str, list[float]]:
    """When each pod began to answer, by run: to a second, their clock's step."""
    items, _ = await api.list(
        f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": "lmms-eval.io/step=answer"}
    )
    found: dict[str, list[float]] = {}
    for pod in items:
        name = f"{namespace}/{pod['metadata']['labels']['lmms-eval.io/run']}"
        at = datetime.fromisoformat(pod["status"]["startTime"])
        found.setdefault(name, []).append(at.timestamp())
    return found


def _at_once(starts: dict[str, list[float]], seconds: float) -> int:
    """Most pods that answered at the same time."""
    begun = sorted(at for pods in starts.values() for at in pods)
    return max(bisect_right(begun, at) - bisect_right(begun, at - seconds) for at in begun)


def _heard(witness: Witness, starts: dict[str, list[float]]) -> dict[str, list[tuple[float, int]]]:
    """When a status told how much of a run was done, but for its begin and its end."""
    heard: dict[str, list[tuple[float, int]]] = {}
    for at, name, done in witness.told():
        if done > 0 and name in starts:
            heard.setdefault(name, []).append((at, done))
    return heard


def _lags(
    heard: dict[str, list[tuple[float, int]]], starts: dict[str, list[float]], seconds: float
) -> list[float]:
    """How long ago the pods had done what a status says. What is told at the end is not counted.

    A run's shards begin one after another, and the requests are theirs in equal parts.
    """
    return [
        at - (sum(starts[name]) / len(starts[name]) + seconds * done / REQUESTS)
        for name, told in heard.items()
        for at, done in told
        if done < REQUESTS
    ]


def _gaps(heard: dict[str, list[tuple[float, int]]]) -> Iterator[float]:
    for told in heard.values():
        yield from (later - at for (at, _), (later, _) in pairwise(told))
        yield 0.0


def finished_status(stage: Stage, namespace: str) -> dict[str, Any]:
    """The status of a run that has ended, with all that it holds."""
    path = runs_path(namespace)
    stage.writer.send(runs(namespace, 1, {SECONDS_ANNOTATION: "2"})).result()
    until("its end", lambda: stage.ask(lambda api: _ended(api, path)) == 1, 120, 1)
    status: dict[str, Any] = stage.run(namespace, "run-00000")["status"]
    return status
