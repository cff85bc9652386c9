"""With many runs stored that have ended: a restart, and doing nothing."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from bench.control.documents import ended, runs
from bench.control.latency import waits
from bench.control.stage import Stage
from bench.control.witness import JOBS, Witness
from cluster.access import until

NAMESPACES = 10
TICK_SECONDS = 10.0


@dataclass(frozen=True)
class Idle:
    """Nothing active. requests: by verb and resource."""

    seconds: float
    requests: dict[str, int]
    per_minute: float
    per_minute_without_lease: float
    cpu_percent: float
    rss_mib: float


def fill(stage: Stage, count: int, status: dict[str, Any]) -> None:
    """Store runs that have ended. The operator is away meanwhile: it would begin them."""
    stage.stop()
    for _ in range(NAMESPACES):
        namespace = stage.plane.namespace("stored")
        creates, statuses = ended(namespace, count // NAMESPACES, status)
        stage.writer.send(creates).result()
        stage.writer.send(statuses).result()
    stage.start()
    stage.ready()


def restart(stage: Stage) -> float:
    """Seconds from the start of a process to the Job of a run that was applied before."""
    stage.stop()
    namespace = stage.plane.namespace("restart")
    with Witness(stage.target) as witness:
        stage.writer.send(runs(namespace, 1)).result()
        began = stage.start()
        job = f"{namespace}/run-00000-prepare"
        until("the Job", lambda: job in witness.seen()[JOBS], 60, 0.1)
        took = witness.seen()[JOBS][job] - began
    stage.ready()
    stage.clear(namespace)
    return took


def right_after(stage: Stage) -> float:
    """Seconds to the Job of a run that is applied as soon as a process has begun to work.

    It has read all, but its watch reads all once more before it tells of what is new.
    """
    namespace = stage.plane.namespace("after")
    stage.stop()
    with Witness(stage.target) as witness:
        stage.start()
        stage.has_read(1)
        stage.writer.send(runs(namespace, 1)).result()
        until("the Job", lambda: bool(waits(witness, namespace)), 60, 0.1)
        (took,) = waits(witness, namespace)
    stage.clear(namespace)
    stage.has_read(2)
    return took


def idle(stage: Stage, seconds: float) -> Idle:
    """What the operator asks for and takes while there is nothing to do."""
    stage.account()
    cpu, began = stage.cpu_seconds, time.monotonic()
    memory = 0.0
    while (left := seconds - (time.monotonic() - began)) > 0:
        memory = max(memory, stage.resident_mib)
        time.sleep(min(left, TICK_SECONDS))
    took = time.monotonic() - began
    used = stage.cpu_seconds - cpu
    requests = stage.account()
    found = Counter(f"{request.verb} {request.what}" for request in requests)
    lease = sum(request.what == "leases" for request in requests)
    return Idle(
        took,
        dict(found),
        60 * len(requests) / took,
        60 * (len(requests) - lease) / took,
        100 * used / took,
        memory,
    )
