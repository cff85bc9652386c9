"""What is explored: runs, what a person does about them, and how much may go wrong on one path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from world_documents import configuration, run_document

from model_check.cluster import EXCUSE, NODE_LOSS_SECONDS, RETRY_LIMIT, RUN, STRANGER, Cluster
from model_check.documents import NOW, Doc

DELAY = 61
"""Seconds of a silence: longer than each deadline of these runs, and than the rules' patience."""
LIMITS = {"startDeadlineSeconds": 60, "retryLimit": RETRY_LIMIT}
CPU = {"parallelism": {"acceleratorsPerShard": 0}}
TWO = {"parallelism": {"shards": 2}}
CONFIG = configuration(maxIgnoredRestarts=1, nodeLossSeconds=NODE_LOSS_SECONDS)

Act = tuple[str, Callable[[Cluster], None]]


@dataclass(frozen=True)
class Scenario:
    """A run with its surroundings.

    acts: of a person, in this order, each at any moment or never. faults: on one path. strangers:
    objects of somebody else, by kind and name. paced: a status that can wait is written only when
    nobody else has anything to do; otherwise at once, which gives more states. nodes_die: nodes may
    be lost for good.
    """

    name: str
    spec: Doc
    acts: tuple[Act, ...] = ()
    faults: int = 1
    strangers: tuple[tuple[str, str], ...] = ()
    paced: bool = True
    nodes_die: bool = False

    def begin(self) -> Cluster:
        """The cluster when the run has just been applied."""
        cluster = Cluster(now=NOW)
        document = run_document(**LIMITS, **self.spec)
        cluster.put(RUN[0], document)
        for kind, name in self.strangers:
            labels = {"lmms-eval.io/run": RUN[1], STRANGER: "true"}
            cluster.put(
                kind, {"metadata": {"name": name, "labels": labels}, "spec": {}, "data": {}}
            )
            cluster.ghost.mishaps = EXCUSE
        return cluster


def edit(label: str, spec: Doc, **changes: Any) -> Act:
    """A person changes the run's spec."""
    document = run_document(**LIMITS, **spec)["spec"] | changes

    def act(cluster: Cluster) -> None:
        cluster.edit(document)

    return f"a person {label}", act


def suspend(spec: Doc) -> Act:
    return edit("suspends the run", spec, suspend=True)


def resume(spec: Doc) -> Act:
    return edit("resumes the run", spec, suspend=False)


def resume_with(spec: Doc, shards: int) -> Act:
    parallelism = {**spec["parallelism"], "shards": shards}
    label = f"resumes the run with {shards} shard(s)"
    return edit(label, spec, suspend=False, parallelism=parallelism)


DELETE: Act = ("a person deletes the run", lambda cluster: cluster.remove(*RUN))


def _delete_slowly(cluster: Cluster) -> None:
    run = cluster.own(RUN)
    run["metadata"]["deletionTimestamp"] = "2026-01-31T00:00:00Z"
    cluster.touch(run)


DELETE_SLOWLY: Act = ("a person deletes the run, its children first", _delete_slowly)

DEADLINE = {**CPU, "activeDeadlineSeconds": 60}
TTL = {**CPU, "ttlSecondsAfterFinished": 60}

GPU: Doc = {"parallelism": {"shards": 1}}

QUEUED = {**CPU, "queueName": "gpu"}
QUEUED_TWO = {**TWO, "queueName": "gpu"}
QUEUED_DEADLINE = {**DEADLINE, "queueName": "gpu"}

FULL = (
    Scenario("one Job", CPU, faults=2),
    Scenario("three Jobs", GPU, faults=2),
    Scenario("two shards", TWO, faults=2),
    Scenario("two shards, each status at once", TWO, faults=1, paced=False),
    Scenario("one Job, suspended and resumed", CPU, (suspend(CPU), resume(CPU)), faults=1),
    Scenario(
        "two shards, suspended and resumed with one", TWO, (suspend(TWO), resume_with(TWO, 1)), 1
    ),
    Scenario(
        "one shard, suspended and resumed with two", GPU, (suspend(GPU), resume_with(GPU, 2)), 0
    ),
    Scenario(
        "a deadline over a suspension", DEADLINE, (suspend(DEADLINE), resume(DEADLINE)), faults=1
    ),
    Scenario("a time to live", TTL, faults=2),
    Scenario("deleted", CPU, (DELETE,), faults=1),
    Scenario("deleted, children first", CPU, (DELETE_SLOWLY,), faults=1),
    Scenario("two shards, deleted", TWO, (DELETE,), faults=0),
    Scenario("two shards, deleted, children first", TWO, (DELETE_SLOWLY,), faults=0),
    Scenario("somebody else's Job", TWO, strangers=(("Job", "trial-answer"),), faults=1),
    Scenario("somebody else's ConfigMap", CPU, strangers=(("ConfigMap", "trial-plan"),), faults=1),
    Scenario("nodes are lost", GPU, faults=2, nodes_die=True),
    Scenario(
        "nodes are lost over a suspension",
        CPU,
        (suspend(CPU), resume(CPU)),
        faults=1,
        nodes_die=True,
    ),
    Scenario("one Job in a queue", QUEUED, faults=2),
    Scenario("two shards in a queue", QUEUED_TWO, faults=1),
    Scenario("a deadline in a queue", QUEUED_DEADLINE, faults=1),
    Scenario("in a queue, suspended and resumed", QUEUED, (suspend(QUEUED), resume(QUEUED)), 1),
    Scenario("born suspended", {**CPU, "suspend": True}, (resume(CPU),), faults=1),
)
