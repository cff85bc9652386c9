"""A run's whole life in the small world: the operator works in it, and is started anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from world import REQUESTS, Crashed, World, condition
from world_documents import configuration, run_document
from world_process import Process

CPU = {"parallelism": {"acceleratorsPerShard": 0}}
GPU: dict[str, Any] = {}
THREE = {"parallelism": {"shards": 3}}
EIGHT = {"parallelism": {"shards": 8}}
STEPS = ["prepare", "answer", "score", "score"]
SHAPES = pytest.mark.parametrize("spec", [CPU, GPU, THREE], ids=["cpu", "gpu", "three"])
TRIAL = {
    "metadata": {"name": "shapes"},
    "document": {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "Benchmark",
        "metadata": {"name": "shapes"},
        "spec": {"tasks": ["shapes"], "files": {"shapes.yaml": "task: shapes\n"}},
    },
}


def begin(spec: dict[str, Any], **fields: Any) -> World:
    world = World(**fields)
    world.put("EvaluationRun", run_document(**spec))
    return world


class Life:
    """A world and the operator in it, which is started anew when it crashes."""

    def __init__(self, world: World, **config: Any) -> None:
        self.world = world
        self.config = configuration(**config)
        self.process = Process(world, self.config)
        self.crashes = 0

    def work(self) -> None:
        try:
            self.process.work()
        except Crashed:
            self.crashes += 1
            self.world.crash_after = None
            self.process = Process(self.world, self.config)
            self.process.work()

    def until(self, done: Callable[[World], Any], ticks: int = 120, seconds: float = 5) -> None:
        for _ in range(ticks):
            self.work()
            if done(self.world):
                return
            self.world.tick(seconds)
        raise AssertionError(f"never: {json.dumps(self.world.status, indent=1)}")

    def to_the_end(self, **arguments: Any) -> dict[str, Any]:
        self.until(lambda world: world.status.get("completionTime"), **arguments)
        self.rest()
        return self.world.status

    def rest(self) -> None:
        """All comes to rest, and then nothing is written any more."""
        for _ in range(5):
            self.world.tick()
            self.work()
        before = len(self.world.writes)
        for _ in range(5):
            self.world.tick(60)
            self.work()
        assert self.world.writes[before:] == []
        plan = self.process.decide()
        assert plan is None or (plan.actions, plan.status, plan.events) == ((), None, ())


def phase(name: str) -> Callable[[World], bool]:
    return lambda world: world.status.get("phase") == name


def names(world: World, kind: str) -> list[str]:
    return sorted(document["metadata"]["name"] for document in world.all(kind))


def at_step(world: World, step: str = "answer") -> list[dict[str, Any]]:
    return [
        pod for pod in world.all("Pod") if pod["metadata"]["labels"]["lmms-eval.io/step"] == step
    ]


def reason_of(status: dict[str, Any]) -> str:
    (ready,) = (entry for entry in status["conditions"] if entry["type"] == "Ready")
    return str(ready["reason"])


def reason_of_stall(status: dict[str, Any]) -> str:
    (stalled,) = (entry for entry in status["conditions"] if entry["type"] == "Stalled")
    return str(stalled["reason"])


def succeeded(life: Life) -> None:
    world = life.world
    status = world.status
    assert status["phase"] == "Succeeded", json.dumps(status, indent=1)
    assert condition({"status": status}, "Complete")
    run = "runs/team/trial/uid-1"  # its own, whatever the pod says
    assert status["results"]["uri"] == f"s3://evaluations/team/{run}/manifest.json"
    assert status["progress"]["requestsDone"] == REQUESTS
    assert world.jobs_alive <= 1
