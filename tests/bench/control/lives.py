"""Whole lives of runs on a played node: memory, writes, and how old progress is when it is told."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
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

    rss_mib: most memory of the operator while all answered. lag: seconds that progress was old when
    a status told it, p50 and p95. writes: the most that one run cost, and what they were. over: by
    how much a run cost more than 15 and 2 for each minute of its life; 0 if none did.
    """

    runs: int
    shards: int
    seconds: float
    rss_mib: float
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
        stage.writer.send(runs(namespace, count, shards, **told)).result()
        began = time.monotonic()
        ended = 0
        while ended < count:
            memory = max(memory, stage.resident_mib)
            assert time.monotonic() - began < seconds + END_SECONDS, f"{ended} of {count} ended"
            if time.monotonic() - began > seconds:
                ended = stage.ask(lambda api: _ended(api, path))
            time.sleep(2)
        lags = _lags(witness, stage.ask(lambda api: _answering(api, namespace)), seconds)
    writes = writes_by_run(stage.account(), namespace)
    assert len(writes) == count, f"writes of {len(writes)} of {count} runs"
    most = max(writes.values(), key=lambda one: one.total())
    minutes = stage.ask(lambda api: _minutes(api, path))
    over = max(one.total() - 15 - 2 * minutes[name] for name, one in writes.items())
    lags.sort()
    return Lives(
        count,
        shards,
        seconds,
        memory,
        lags[len(lags) // 2] if lags else 0.0,
        lags[len(lags) * 95 // 100] if lags else 0.0,
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


async def _answering(api: ApiClient, namespace: str) -> dict[str, datetime]:
    """When the pods of each run began to answer, by run."""
    items, _ = await api.list(
        f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": "lmms-eval.io/step=answer"}
    )
    found: dict[str, datetime] = {}
    for pod in items:
        name = f"{namespace}/{pod['metadata']['labels']['lmms-eval.io/run']}"
        at = datetime.fromisoformat(pod["status"]["startTime"])
        found[name] = max(at, found.get(name, at))
    return found


def _lags(witness: Witness, begun: dict[str, datetime], seconds: float) -> list[float]:
    """How long ago the pods had done what a status says, to a second (their clock's step).

    What is told at the end counts for nothing here: all is done then.
    """
    found = []
    for at, name, done in witness.told():
        if 0 < done < REQUESTS and name in begun:
            produced = begun[name].timestamp() + seconds * done / REQUESTS
            found.append(at - produced)
    return found


def finished_status(stage: Stage, namespace: str) -> dict[str, Any]:
    """The status of a run that has ended, with all that it holds."""
    path = runs_path(namespace)
    stage.writer.send(runs(namespace, 1, **{SECONDS_ANNOTATION: "2"})).result()
    until("its end", lambda: stage.ask(lambda api: _ended(api, path)) == 1, 120, 1)
    status: dict[str, Any] = stage.run(namespace, "run-00000")["status"]
    return status
