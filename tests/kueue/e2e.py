"""Twenty runs share four GPUs through Kueue, and one is preempted: `make kueue-e2e`.

All of it is real: Kueue, the kubelet, the pods, the model, the scores. The GPUs are advertised, and
the model computes on the CPU, so the figures tell of order and exactness, not of speed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from plain import plain_run
from queues import Place, cluster_queue, priority, queue
from space import EXAMPLE, ROOT, Space, assert_equal

from bench.reporting import bench
from cluster import cluster as starting
from cluster import demo, kueue
from cluster.cluster import Cluster
from cluster.progress import say, step

QUOTA = 4
RUNS = 20
LIMITS = (300, 500)
"""Documents of a run, in turn."""
GPUS = ((1, 1), (1, 2), (1, 2), (1, 1), (2, 2))
"""Shards of a run and GPUs of each, in turn: more than a few never fit together."""
URGENT = "urgent"
LOOK_SECONDS = 2.0
PATIENCE_SECONDS = 3600
SMALL = {"cpu": "100m", "memory": "2Gi"}
"""Of every pod: the machine has few processors, and Kueue is to be what bounds the runs."""

Doc = dict[str, Any]


@dataclass
class Seen:
    """What was seen of a run from the outside."""

    spread: tuple[int, int]
    documents: int
    priority: str = ""
    admitted: float | None = None
    words: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    preempted: str = ""
    status: Doc = field(default_factory=dict)

    @property
    def gpus(self) -> int:
        """How many it needs."""
        return self.spread[0] * self.spread[1]

    def look(self, status: Doc, seconds: float) -> None:
        """Take note of a status."""
        self.status = status
        phase = status.get("phase")
        if phase and (not self.phases or self.phases[-1] != phase):
            self.phases.append(phase)
        ready = next((e for e in status.get("conditions", ()) if e["type"] == "Ready"), {})
        message = str(ready.get("message") or "")
        if phase == "Queued" and message not in self.words:
            self.words.append(message)
        if ready.get("reason") == "Preempted":
            self.preempted = message
        queue = status.get("queue") or {}
        if (queue.get("name"), queue.get("state")) == ("gpu", "Admitted") and not self.admitted:
            self.admitted = seconds


def main() -> int:
    """Run it, and print a table and the figures."""
    parser = argparse.ArgumentParser(prog="make kueue-e2e", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"how many (default: {RUNS})")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _installed() as cluster:
        Path(folder).chmod(0o755)
        space = _space(cluster, Path(folder))
        began = time.monotonic()
        runs, most = _work(space, options.runs)
        seconds = time.monotonic() - began
        return _report(space, runs, most, seconds, Path(folder))


@contextmanager
def _installed() -> Iterator[Cluster]:
    """A node with Kueue and the operator, installed as the README says."""
    with starting.cluster("make kueue-e2e") as cluster:
        with step("images"):
            cluster.ensure_images()
        with step("Kueue"):
            kueue.start(cluster.control_plane)
        with step("the operator"):
            cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "config" / "demo"))
            deployment = ("rollout", "status", "deployment/lmms-eval-operator", "--timeout=180s")
            cluster.kubectl("-n", "lmms-eval-system", *deployment)
        yield cluster


def _space(cluster: Cluster, folder: Path) -> Space:
    """A namespace with the example's claims, and the queues."""
    namespace = cluster.namespace("kueue")
    volumes = folder / "volumes"
    volumes.mkdir(mode=0o755)
    demo.set_up(cluster, cluster.s3, namespace, volumes)
    space = Space(cluster, namespace)
    space.kubectl("apply", "-f", str(EXAMPLE / "benchmark.yaml"))
    much = {"cpu": "100", "memory": "1000Gi"}
    Place(cluster, namespace).apply(
        *cluster_queue("gpus", "gpu-nodes", {**much, "nvidia.com/gpu": str(QUOTA)}),
        # Prepare and score: two at a time, which is what the machine can do.
        *cluster_queue("cpus", "cpu-nodes", {"cpu": "200m", "memory": "1000Gi"}),
        queue("gpu", "gpus"),
        queue("cpu", "cpus"),
        priority(URGENT, 1000),
    )
    return space


def _apply(space: Space, name: str, seen: Seen) -> None:
    pods, (shards, each) = {"resources": SMALL}, seen.spread
    spread = {"shards": shards, "acceleratorsPerShard": each, "acceleratorsPerWorker": each}
    space.apply(
        "gpu.yaml",
        name=name,
        benchmarks=[{"benchmarkRef": {"name": "easy-vqa"}, "limit": seen.documents}],
        parallelism=spread,
        preparePod=pods,
        answerPod=pods,
        scorePod=pods,
        cache={"reuseAnswers": "Never"},  # equal runs would find each other's answers
        queueName="gpu",
        cpuQueueName="cpu",
        queuePriorityClassName=seen.priority or None,
    )


def _work(space: Space, count: int) -> tuple[dict[str, Seen], int]:
    """All runs to their end, and the most GPUs that were held at once.

    The last one is urgent, and comes while runs that have answers leave too few GPUs for it.
    """
    runs = {
        f"run-{number:02}": Seen(
            spread=GPUS[number % len(GPUS)],
            documents=LIMITS[number % len(LIMITS)],
        )
        for number in range(count - 1)
    }
    for name, seen in runs.items():
        _apply(space, name, seen)
    began, most = time.monotonic(), 0
    urgent: str | None = None
    while any("completionTime" not in seen.status for seen in runs.values()):
        seconds = time.monotonic() - began
        assert seconds < PATIENCE_SECONDS, space.kubectl("get", "evr,jobs,pods,workloads")
        _look(space, runs, seconds)
        held = _held(space)
        most = max(most, held)
        if urgent is None and held >= QUOTA - 1 and _some_answer(runs):
            urgent = f"run-{count - 1:02}"
            runs[urgent] = Seen((1, 2), LIMITS[0], URGENT)
            _apply(space, urgent, runs[urgent])
            say(f"{seconds:.0f} s: {urgent} comes, urgent, for 2 of the {QUOTA} GPUs")
        time.sleep(LOOK_SECONDS)
    return runs, most


def _look(space: Space, runs: dict[str, Seen], seconds: float) -> None:
    found = json.loads(space.kubectl("get", "evr", "-o", "json"))["items"]
    for document in found:
        seen = runs[document["metadata"]["name"]]
        before = seen.status.get("phase")
        seen.look(document.get("status") or {}, seconds)
        if seen.status.get("phase") != before:
            say(f"{seconds:.0f} s: {document['metadata']['name']} {seen.status.get('phase')}")


def _held(space: Space) -> int:
    """GPUs of the Jobs that Kueue lets work."""
    jobs = json.loads(space.kubectl("get", "jobs", "-l", "lmms-eval.io/step=answer", "-o", "json"))
    return sum(
        job["spec"]["parallelism"] * _gpus_of(job["spec"]["template"])
        for job in jobs["items"]
        if not job["spec"].get("suspend")
        and not any(
            entry["status"] == "True" and entry["type"] in ("Complete", "Failed")
            for entry in job["status"].get("conditions", ())
        )
    )


def _gpus_of(template: Doc) -> int:
    (container,) = template["spec"]["containers"]
    return int(container["resources"]["limits"]["nvidia.com/gpu"])


def _some_answer(runs: dict[str, Seen]) -> bool:
    """Whether a run that holds GPUs has answers, and not yet all."""
    at_work = [seen.status for seen in runs.values() if seen.status.get("phase") == "Answering"]
    return any(0 < status.get("progress", {}).get("percent", 0) < 50 for status in at_work)


def _report(space: Space, runs: dict[str, Seen], most: int, seconds: float, folder: Path) -> int:
    with step("plain lmms-eval"):
        plain = {}
        for documents in LIMITS:
            place = folder / f"plain-{documents}"
            place.mkdir()
            plain[documents] = plain_run(place, documents)
    unequal = []
    order = sorted(runs, key=lambda name: runs[name].admitted or math.inf)
    print(
        f"{'admitted':>8} {'run':8} {'priority':8} {'GPUs':>4} {'at':>7} {'waited':>7} "
        f"{'stops':>5} {'docs':>5} {'computed':>8} {'writes':>6}  score and equality"
    )
    for place, name in enumerate(order, 1):
        seen, status = runs[name], runs[name].status
        verdict = "equals plain lmms-eval"
        try:
            assert status["phase"] == "Succeeded", status["conditions"]
            assert_equal(space.results(status), plain[seen.documents])
        except AssertionError as error:
            unequal.append(name)
            verdict = f"DIFFERS: {str(error)[:300]}"
        stops = status.get("queue", {}).get("evictions", 0)
        print(
            f"{place:8} {name:8} {seen.priority or '-':8} {seen.gpus:4} "
            f"{seen.admitted or math.nan:6.0f}s "
            f"{status.get('time', {}).get('queue', 0):6}s {stops:5} "
            f"{seen.documents:5} {status.get('answers', {}).get('computed', 0):8} "
            f"{len(space.writes(name)):6}  {status.get('headline')}, {verdict}"
        )
    preempted = [name for name, seen in runs.items() if seen.preempted]
    for name in preempted:
        print(f"preempted: {name} ({' > '.join(runs[name].phases)}): {runs[name].preempted}")
    words = {words for seen in runs.values() for words in seen.words}
    print("seen while waiting:")
    for text in sorted(words):
        print(f"  {text}")
    waited = sum(
        "insufficient unused quota" in text for seen in runs.values() for text in seen.words
    )
    evictions = sum(seen.status.get("queue", {}).get("evictions", 0) for seen in runs.values())
    faults = {
        "scores differ": unequal,
        "more GPUs than the quota": most > QUOTA,
        "nobody was preempted": not preempted,
        "no run was told why it waits": not waited,
    }
    bench(
        "kueue",
        kueue=kueue.version(),
        runs=len(runs),
        quota=QUOTA,
        preemptions=evictions,
        max_gpus=most,
        unequal=len(unequal),
        writes_most=max(len(space.writes(name)) for name in runs),
        seconds=seconds,
    )
    for what, broken in faults.items():
        if broken:
            say(f"broken: {what}: {broken}")
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main())
