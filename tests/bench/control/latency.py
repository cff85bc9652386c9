"""How long a single run waits for its first Job."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.control.documents import runs
from bench.control.stage import Stage
from bench.control.witness import JOBS, RUNS, Witness
from cluster.access import until


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the run's arrival in a watch to that of its Job in another."""

    p50: float
    p95: float
    p99: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Of single values."""
        cuts = statistics.quantiles(seconds, n=100, method="inclusive")
        return cls(1000 * cuts[49], 1000 * cuts[94], 1000 * cuts[98], len(seconds))

    def __str__(self) -> str:
        return f"p50 {self.p50:.1f} ms, p95 {self.p95:.1f} ms, p99 {self.p99:.1f} ms ({self.count})"


def latency(stage: Stage, count: int, per_second: float = 1.0) -> Latency:
    """Apply one run after another."""
    namespace = stage.plane.namespace("latency")
    with Witness(stage.target) as witness:
        stage.writer.send(runs(namespace, count), per_second, connections=1).result()
        until("a Job for each run", lambda: len(waits(witness, namespace)) == count, 30, 0.5)
        found = waits(witness, namespace)
    stage.clear(namespace)
    return Latency.of(found)


def waits(witness: Witness, namespace: str) -> list[float]:
    """Of the namespace's runs that have their first Job; others may go on meanwhile."""
    seen = witness.seen()
    return [
        seen[JOBS][f"{name}-prepare"] - at
        for name, at in seen[RUNS].items()
        if name.startswith(f"{namespace}/") and f"{name}-prepare" in seen[JOBS]
    ]
