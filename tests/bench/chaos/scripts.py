"""What each run is to go through: drawn from a seed."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, Literal

from bench.played_node.fates import COUNTED, FATES_ANNOTATION, SECONDS_ANNOTATION, End

Doc = dict[str, Any]

Act = Literal["none", "suspend", "delete", "reapply", "delete_job"]
ACTS: dict[Act, float] = {
    "none": 0.62,
    "suspend": 0.18,
    "delete": 0.03,
    "reapply": 0.07,
    "delete_job": 0.10,
}
DISTURBED = 0.25
"""Runs whose pods do not all succeed at once."""
FOR_GOOD = 0.05
WITH_TTL = 0.15
LATEST_ACT_SECONDS = 6.0
RETRIES = 3


@dataclass(frozen=True)
class Script:
    """The life of one run.

    shards: 0 for the kind of one Job, without accelerators. fates: of the pods that answer.
    act: of a person, so many seconds after the run was created. hold: seconds from there until the
    run is resumed. reshaped: shards from then on. fails: whether it is to end as Failed.
    """

    number: int
    namespace: str
    shards: int
    fates: tuple[End, ...]
    act: Act
    after: float
    hold: float
    reshaped: int
    ttl: int | None
    seconds: float

    @property
    def name(self) -> str:
        """Of the run."""
        return f"run-{self.number:05}"

    @property
    def steps(self) -> frozenset[str]:
        """Labels of the Jobs that it needs."""
        return frozenset({"prepare", "answer", "score"} if self.shards else {"all"})

    @property
    def fails(self) -> bool:
        """Whether it is to end as Failed."""
        return "fails_for_good" in self.fates

    @property
    def counted_failures(self) -> int:
        """Failures that its shards may have at most, over all of them."""
        most = max(self.shards, self.reshaped, 1)
        return most * sum(fate in COUNTED or fate == "fails_for_good" for fate in self.fates)

    def manifest(self) -> Doc:
        """The run."""
        annotations = {SECONDS_ANNOTATION: f"{self.seconds:.2f}"}
        if self.fates:
            annotations[FATES_ANNOTATION] = json.dumps(self.fates)
        spec: Doc = {
            "model": {
                "profile": "qwen2_5_vl",
                "source": {"huggingFace": {"repo": "Qwen/Qwen2.5-VL-7B-Instruct"}},
            },
            "benchmarks": [{"name": "mme"}],
            "results": {"s3": {"uri": "s3://evaluations/chaos"}},
            "parallelism": parallelism(self.shards),
            "answerPod": {"annotations": annotations},
            "retryLimit": RETRIES,
        }
        if self.ttl is not None:
            spec["ttlSecondsAfterFinished"] = self.ttl
        return {
            "apiVersion": "lmms-eval.io/v1alpha1",
            "kind": "EvaluationRun",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }


def parallelism(shards: int) -> Doc:
    """The field of the spec."""
    return {"shards": shards} if shards else {"acceleratorsPerShard": 0}


def draw(seed: int, number: int, namespaces: list[str]) -> Script:
    """The script of a run: the same for a seed and a number."""
    source = random.Random(f"script {seed} {number}")
    act: Act = source.choices(list(ACTS), list(ACTS.values()))[0]
    shards = source.choice((0, 1, 1, 2, 3, 4))
    fates: tuple[End, ...] = ()
    if source.random() < DISTURBED:
        ends: tuple[End, ...] = ("preempted", "evicted", "fails", "killed")
        fates = tuple(source.choices(ends, k=source.choice((1, 1, 2))))
    if source.random() < FOR_GOOD and act in ("none", "delete"):
        fates = (*fates[:1], "fails_for_good")
    reshaped = source.randint(1, 4) if shards and source.random() < 0.5 else shards
    return Script(
        number=number,
        namespace=source.choice(namespaces),
        shards=shards,
        fates=fates,
        act=act,
        after=source.uniform(0.0, LATEST_ACT_SECONDS),
        hold=source.choice((0.0, source.uniform(0.0, 1.0), source.uniform(1.0, 6.0))),
        reshaped=reshaped,
        ttl=source.choice((0, 5)) if source.random() < WITH_TTL else None,
        seconds=source.uniform(0.2, 3.0),
    )
