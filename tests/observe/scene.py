"""What the dashboards are to show: runs in all conditions, at a real operator, and a real runner.

The runs' pods are played (a node that runs nothing), so that they end, fail and tell what the scene
asks for. The runner is real: it evaluates easy-VQA on this machine, and is found as the pod of a
shard of the run that is shown alone.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.api_client import ApiClient
from bench.control.documents import creation, run, runs_path
from bench.control.stage import Stage, stage
from bench.example import make_run
from bench.played_node.fates import FATES_ANNOTATION, SECONDS_ANNOTATION
from bench.played_node.statuses import INVALID_ANNOTATION
from cluster.access import until
from cluster.prometheus import Prometheus
from evalrun_api.plan import StorePlan
from evalrun_runner import local

SETTINGS: dict[str, Any] = {
    "pricePerAcceleratorHour": 2.5,
    "progressSeconds": 2,
    "scrape": {"intervalSeconds": 1},
    "caps": {"maxActiveRuns": 6},
}
SHOWN = "shown"
"""The run that the dashboard of one run shows."""
SHOWN_SECONDS = 3600.0
QUICK_SECONDS = 10.0
ANSWERS = 200
"""Of the real runner, before it has told enough."""

Doc = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """All of it, at work. since: when it began."""

    on: Stage
    prometheus: Prometheus
    namespace: str
    operator: str
    runner: str
    since: float


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Have it until the block ends. folder: for the runner."""
    with stage() as on:
        prometheus = Prometheus(on.plane)
        on.start(**SETTINGS)
        assert on.replica is not None
        operator = f"127.0.0.1:{on.replica.port}"
        prometheus.target("operator", [operator])
        on.ready()
        on.play("--seconds", "prepare=2", "score=2", "--jitter=0", "--requests=600", "--serve")
        namespace = on.plane.namespace("vision")
        since = time.time()
        until("a scrape before anything ends", lambda: _scrapes(prometheus) >= 2, 60, 1)
        on.writer.send([creation(each) for each in _runs(namespace)]).result()
        step = local.start(make_run(folder, StorePlan(uri=(folder / "store").as_uri())))
        try:
            until("the real runner answers", lambda: _is_answering(step), 600, 0.5)
            runner = (folder / _only(folder, "address")).read_text().strip()
            found = {"namespace": namespace, "run": SHOWN, "shard": "0"}
            prometheus.target("runner", [runner], found)
            until("the quick runs have ended", lambda: on.ask(_ended(namespace)) >= 4, 600, 2)
            until(
                "it has been scraped for a while", lambda: _runner_scrapes(prometheus) > 20, 300, 2
            )
            yield Scene(on, prometheus, namespace, operator, runner, since)
        finally:
            step.kill()
            step.wait(10)
        on.stop()


def _runs(namespace: str) -> Iterator[Doc]:
    """Two models that end well, one that fails, one that waits for a person, and the shown one."""
    quick = {SECONDS_ANNOTATION: str(QUICK_SECONDS)}
    for number, model in enumerate(("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct")):
        document = run(namespace, f"quick-{number}", annotations=quick)
        document["spec"]["model"]["source"]["huggingFace"]["repo"] = model
        yield document
    for number in range(2):
        fails = {SECONDS_ANNOTATION: "3", FATES_ANNOTATION: json.dumps(["fails_for_good"])}
        yield run(namespace, f"fails-{number}", annotations=fails)
    stalled = run(namespace, "stalled")
    stalled["spec"]["benchmarks"] = [{"benchmarkRef": {"name": "missing"}}]
    yield stalled
    yield run(
        namespace,
        SHOWN,
        shards=2,
        annotations={
            SECONDS_ANNOTATION: str(SHOWN_SECONDS),
            INVALID_ANNOTATION: json.dumps({"Empty": 3, "OutOfMemory": 1}),
        },
    )


def _only(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"*/{name}")
    return found


def _is_answering(step: local.RunningStep) -> bool:
    assert step.poll() is None, step.outcome()
    progress = step.progress()
    return progress is not None and progress.computed > ANSWERS


def _scrapes(prometheus: Prometheus) -> int:
    return len(_values(prometheus, "evalrun_operator_leader == 1"))


def _runner_scrapes(prometheus: Prometheus) -> int:
    return len(_values(prometheus, "sum(evalrun_runner_requests_total)"))


def _values(prometheus: Prometheus, query: str) -> list[Any]:
    now = time.time()
    found = prometheus.over(query, now - 300, now, 1)
    return found[0]["values"] if found else []


def _ended(namespace: str) -> Any:
    async def ask(api: ApiClient) -> int:
        items, _ = await api.list(runs_path(namespace), {})
        phases = Counter((item.get("status") or {}).get("phase") for item in items)
        return phases["Succeeded"] + phases["Failed"]

    return ask
