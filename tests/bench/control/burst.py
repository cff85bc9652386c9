"""A burst of runs, and beside it a client that only creates Jobs: the limit of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from bench.control.documents import bare_jobs, runs
from bench.control.stage import Stage
from bench.control.witness import JOBS, RUNS, Witness
from cluster.access import until

CREATED_IN_SECONDS = 2.0
"""How fast the burst is asked for; the API server may take longer."""
SETTLE_SECONDS = 120.0


@dataclass(frozen=True)
class Burst:
    """A round. per_second: runs that got their first Job, from the first run to the last Job.

    created_s: how long the creator needed for its runs. raw_per_second: Jobs of the bare client.
    cpu_s: of the operator.
    """

    per_second: float
    created_s: float
    raw_per_second: float
    cpu_s: float


def burst(stage: Stage, count: int) -> Burst:
    """One round of both, on a control plane that has nothing else."""
    raw = _raw(stage, count)
    namespace = stage.plane.namespace("burst")
    before = stage.cpu_seconds
    with Witness(stage.target) as witness:
        created = stage.writer.send(runs(namespace, count), count / CREATED_IN_SECONDS)
        until("a Job for each run", lambda: _all(witness, count), SETTLE_SECONDS, 0.5)
        done, seen = created.result(), witness.seen()
    cpu = stage.cpu_seconds - before
    first, last = min(seen[RUNS].values()), max(seen[JOBS].values())
    took = max(one.answered for one in done) - done[0].sent
    return Burst(count / (last - first), took, raw, cpu)


def _all(witness: Witness, count: int) -> bool:
    return witness.count(JOBS) >= count


def _raw(stage: Stage, count: int) -> float:
    namespace = stage.plane.namespace("raw")
    done = stage.writer.send(bare_jobs(namespace, count)).result()
    took = max(one.answered for one in done) - done[0].sent
    _pods(stage, namespace, count)
    return count / took


def _pods(stage: Stage, namespace: str, count: int) -> None:
    """Wait for the Job controller: what it still has to do would be done during the burst."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    until("a pod for each Job", lambda: stage.count(pods) >= count, SETTLE_SECONDS, 1)
