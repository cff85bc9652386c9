"""Pods whose endpoints are slow or never answer, and what that costs runs that have none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.control.documents import runs
from bench.control.latency import Latency, latency
from bench.control.stage import Stage
from bench.played_node.fates import SECONDS_ANNOTATION
from bench.played_node.progress_server import DELAY_ANNOTATION
from cluster.access import until

SLOW, SLOW_SECONDS = 100, 5.0
NEVER_SECONDS = 3600.0


@dataclass(frozen=True)
class Hung:
    """Latency beside a hundred pods that answer at once, and beside slow ones and a silent one.

    timeouts: readings that the operator gave up meanwhile. healthy: what its probes said.
    """

    quick: Latency
    slow: Latency
    timeouts: int
    healthy: bool


def hung(stage: Stage, count: int) -> Hung:
    """Measure both, one after another."""
    namespace = stage.plane.namespace("quick")
    _answering(stage, namespace, SLOW, 0.0)
    quick = latency(stage, count)
    stage.clear(namespace)
    namespaces = [stage.plane.namespace("slow"), stage.plane.namespace("silent")]
    _answering(stage, namespaces[0], SLOW, SLOW_SECONDS)
    _answering(stage, namespaces[1], 1, NEVER_SECONDS)
    before = _timeouts(stage)
    slow = latency(stage, count)
    after = _timeouts(stage)
    assert stage.replica is not None
    healthy = bool(stage.replica.ask("/healthz")["ok"] and stage.replica.ask("/readyz")["ok"])
    for each in namespaces:
        stage.clear(each)
    return Hung(quick, slow, after - before, healthy)


def _answering(stage: Stage, namespace: str, count: int, delay: float) -> None:
    """Have runs whose pods answer for long, and their endpoints so late."""
    told = {SECONDS_ANNOTATION: "3600", DELAY_ANNOTATION: str(delay)}
    stage.writer.send(runs(namespace, count, told)).result()
    selector = "lmms-eval.io/step=answer"
    running = "--field-selector=status.phase=Running"
    ask = ("-n", namespace, "get", "pods", "-l", selector, running, "-o", "name")
    until(
        f"{count} pods answer",
        lambda: len(stage.plane.kubectl(*ask).stdout.splitlines()) >= count,
        120,
        1,
    )


def _timeouts(stage: Stage) -> int:
    assert stage.replica is not None
    text = stage.replica.text("/metrics")
    pattern = r'^evalrun_operator_scrape_failures_total\{reason="timeout"\} ([0-9.]+)'
    found = re.search(pattern, text, re.MULTILINE)
    return int(float(found[1])) if found else 0
