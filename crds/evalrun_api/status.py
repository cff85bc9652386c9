"""`EvaluationRun.status`: what is known of a run. Written by the operator alone.

Numbers that pods report are strings or bounded integers here, so that nothing a pod says can make
a status that the API server refuses.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from evalrun_api.document import Document, ShortText
from evalrun_api.journal import ErrorClass

Phase = Literal[
    "Pending", "Queued", "Preparing", "Answering", "Scoring", "Suspended", "Succeeded", "Failed"
]
Step = Literal["Prepare", "Answer", "Score"]
ConditionType = Literal[
    "Ready", "Reconciling", "Stalled", "Complete", "Failed", "Suspended", "Trusted", "Passed"
]
Text = Annotated[str, StringConstraints(max_length=1024)]
Number = Annotated[str, StringConstraints(max_length=32)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class Condition(Document):
    """As metav1.Condition."""

    type: ConditionType = Field(description="What the condition is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[
        str, StringConstraints(max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ] = Field(description="Why, in one CamelCase word; docs/troubleshooting.md lists them.")
    message: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="Why, for a person, and what to do."
    )
    last_transition_time: datetime = Field(
        description="When the status last changed; of Stalled: when it, or the reason, did."
    )
    observed_generation: Count | None = Field(
        default=None, description="Generation of the spec that it speaks of."
    )


class BenchmarkProgress(Document):
    """How far one task is."""

    name: ShortText = Field(description="lmms-eval task.")
    requests_done: Count = Field(default=0, description="Answered requests.")
    requests_total: Count = Field(default=0, description="All requests.")


class ProgressStatus(Document):
    """How far the run is."""

    requests_done: Count = Field(default=0, description="Answered requests.")
    requests_total: Count = Field(default=0, description="All requests.")
    percent: Annotated[int, Field(ge=0, le=100)] = Field(default=0, description="Done, in percent.")
    requests_per_second: Number | None = Field(default=None, description="Recent rate.")
    eta_seconds: Count | None = Field(default=None, description="Seconds left at that rate.")
    benchmarks: Annotated[list[BenchmarkProgress], Field(max_length=100)] = Field(
        default_factory=list,
        description="The same by task.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )


class ShardStatus(Document):
    """The pods that answer."""

    total: Count = Field(default=0, description="Shards of the run.")
    active: Count = Field(default=0, description="At work.")
    succeeded: Count = Field(default=0, description="Done.")
    failed: Count = Field(default=0, description="Given up.")
    restarts: Count = Field(default=0, description="Restarts after failures that count.")
    ignored_restarts: Count = Field(
        default=0, description="Restarts after preemption, drain or suspension."
    )
    worker_restarts: Count = Field(
        default=0, description="Workers that were started anew within their pod."
    )


class AnswerStatus(Document):
    """The journal."""

    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="Address of the answers."
    )
    reused: Count = Field(default=0, description="Answers that were there when the run was locked.")
    computed: Count = Field(default=0, description="Answers that this run computed.")
    invalid: Count = Field(default=0, description="Answers that are errors or empty.")
    errors: dict[ErrorClass, Count] = Field(
        default_factory=dict, description="Invalid answers by class."
    )


class Score(Document):
    """One headline score, as lmms-eval gave it."""

    benchmark: ShortText = Field(description="lmms-eval task or group.")
    metric: ShortText = Field(description="Name of the metric.")
    filter: ShortText = Field(default="none", description="lmms-eval filter.")
    value: Number = Field(description="The score.")
    stderr: Number | None = Field(default=None, description="Its standard error.")
    n: Count | None = Field(default=None, description="Documents scored.")
    invalid: Count = Field(default=0, description="Answers that are errors or empty.")
    higher_is_better: bool | None = Field(default=None, description="Which way is better.")


class ResultsStatus(Document):
    """Where the results are."""

    uri: Text = Field(description="Address of the manifest.")
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="sha256 of the manifest."
    )


class StageSeconds(Document):
    """Where the time went, in whole seconds."""

    queue: Count = Field(default=0, description="Waiting for a queue's quota.")
    start: Count = Field(default=0, description="Scheduling, pulling, importing.")
    load: Count = Field(default=0, description="Loading weights.")
    decode: Count = Field(default=0, description="Decoding media, without answering meanwhile.")
    generate: Count = Field(default=0, description="Answering.")
    idle: Count = Field(default=0, description="Holding accelerators without answering.")
    score: Count = Field(default=0, description="Scoring.")


class GonePods(Document):
    """What pods contributed that no longer exist; the operator's own bookkeeping."""

    gpu_seconds: Number = Field(default="0", description="Accelerator-seconds held.")
    gpu_idle_seconds: Number = Field(default="0", description="Of these, without answering.")
    failures: Count = Field(default=0, description="Failures that count.")
    disruptions: Count = Field(default=0, description="Preemptions, evictions, drains.")
    forgiven: Count = Field(
        default=0,
        description="Disruptions up to the last resume, which no longer count against the run; "
        "pods that were still ending then are among them.",
    )
    worker_restarts: Count = Field(default=0, description="Workers that were started anew.")
    time: StageSeconds | None = Field(default=None, description="Where their time went.")


class CountedJob(Document):
    """A Job whose time was counted before its end; the operator's own bookkeeping."""

    uid: Annotated[str, StringConstraints(max_length=64)] = Field(description="Of the Job.")
    until: datetime = Field(description="Up to when its time is part of activeSeconds.")


class QueueStatus(Document):
    """Where the Job at work stands with Kueue."""

    name: Annotated[str, StringConstraints(max_length=63)] = Field(description="LocalQueue.")
    state: Literal["Waiting", "Admitted", "Evicted"] = Field(
        description="Waiting: not admitted yet. Evicted: it was, and waits to be admitted again."
    )
    since: datetime = Field(description="Since when.")
    job: Annotated[str, StringConstraints(max_length=64)] = Field(description="uid of the Job.")
    evictions: Count = Field(
        default=0, description="How often a queue took its quota back, over all Jobs of the run."
    )


class UsageStatus(Document):
    """What the run cost."""

    gpu_seconds: Number | None = Field(default=None, description="Accelerator-seconds held.")
    gpu_idle_seconds: Number | None = Field(
        default=None,
        description="Of these, the ones in which no request was being answered: of a pod at work "
        "the time before its start, the rest when it ends.",
    )
    cost: Number | None = Field(default=None, description="At the administrator's price.")
    judge_requests: Count | None = Field(default=None, description="Requests sent to the judge.")
    judge_cost: Number | None = Field(default=None, description="At the run's prices.")


class ProvenanceStatus(Document):
    """What the scores rest on."""

    image: Text | None = Field(default=None, description="Image with digest.")
    lmms_eval: Text | None = Field(default=None, description="Version of lmms-eval.")
    model_revision: Text | None = Field(default=None, description="Commit or content digest.")
    determinism: Literal["Exact", "Batched", "Mixed", "Sampled", "Remote"] | None = Field(
        default=None, description="What could still move an answer."
    )


OUTCOME = (
    *("phase", "step", "conditions", "startTime", "completionTime", "planDigest", "activeSeconds"),
    *("model", "benchmarks", "headline", "progress", "shards", "resumes", "answers", "scores"),
    *("results", "usage", "gonePods", "countedJob", "provenance", "time", "queue", "queuePosition"),
)
"""What never changes once a run has ended: all but the generation that was seen."""


def _unchanged(*names: str) -> str:
    """A CEL rule: none of these fields has changed, come or gone."""
    # Not by optionals (self.?name), whose comparison the API server takes to cost without bound.
    return " && ".join(
        f"has(self.{name}) == has(oldSelf.{name}) && "
        f"(!has(self.{name}) || self.{name} == oldSelf.{name})"
        for name in names
    )


def _never_falls(*paths: str) -> str:
    """A CEL rule: none of these counters is less than it was; one that is gone is 0."""
    fields = [path.replace(".", ".?") for path in paths]
    return " && ".join(
        f"self.?{field}.orValue(0) >= oldSelf.?{field}.orValue(0)" for field in fields
    )


class EvaluationRunStatus(Document):
    """Status of an EvaluationRun."""

    CEL = (
        (
            f"!has(oldSelf.completionTime) || ({_unchanged(*OUTCOME)})",
            "a finished run never changes",
        ),
        (f"!has(oldSelf.startTime) || {_unchanged('startTime')}", "startTime never changes"),
        (_never_falls("resumes"), "resumes never falls"),
        (_never_falls("activeSeconds"), "activeSeconds never falls"),
        (
            _never_falls(
                *(f"shards.{name}" for name in ("restarts", "ignoredRestarts", "workerRestarts")),
                *(f"gonePods.{name}" for name in ("failures", "disruptions")),
            ),
            "restarts, and what is known of pods that are gone, never fall",
        ),
        (
            _never_falls("progress.requestsDone", "progress.requestsTotal", "answers.computed"),
            "progress never falls",
        ),
    )

    observed_generation: Count | None = Field(
        default=None, description="Generation of the spec that this status speaks of."
    )
    phase: Phase | None = Field(default=None, description="One word for people.")
    step: Step | None = Field(default=None, description="Step at work.")
    queue_position: Count | None = Field(
        default=None,
        description="Of a run that waits for an administrator's cap: its place among the waiting "
        "runs of its namespace, 1 for the next one. Written when it joins them, and again when it "
        "has halved or doubled.",
    )
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        default_factory=list,
        description="What holds; for programs.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    start_time: datetime | None = Field(
        default=None, description="When the first pod was asked for."
    )
    completion_time: datetime | None = Field(default=None, description="When the run ended.")
    plan_digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="sha256 of what the run's ConfigMap NAME-plan has to hold."
    )
    active_seconds: Count = Field(default=0, description="Time of work so far, over suspensions.")
    model: Text | None = Field(default=None, description="The model, for the table.")
    benchmarks: Text | None = Field(default=None, description="The benchmarks, for the table.")
    headline: Text | None = Field(default=None, description="First score, for the table.")
    progress: ProgressStatus | None = Field(default=None, description="How far the run is.")
    shards: ShardStatus | None = Field(default=None, description="The pods that answer.")
    resumes: Count = Field(default=0, description="Resumptions by a person.")
    answers: AnswerStatus | None = Field(default=None, description="The journal.")
    scores: Annotated[list[Score], Field(max_length=100)] = Field(
        default_factory=list,
        description="Headline scores; the rest is in the results.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    results: ResultsStatus | None = Field(default=None, description="Where the results are.")
    usage: UsageStatus | None = Field(default=None, description="What the run cost.")
    gone_pods: GonePods | None = Field(
        default=None, description="What pods contributed that no longer exist."
    )
    counted_job: CountedJob | None = Field(
        default=None, description="The Job that a suspension stopped, as far as it was counted."
    )
    queue: QueueStatus | None = Field(
        default=None, description="Where the Job at work stands with Kueue, if it is queued."
    )
    provenance: ProvenanceStatus | None = Field(
        default=None, description="What the scores rest on."
    )
    time: StageSeconds | None = Field(
        default=None, description="Where the time went, summed over the pods that have ended."
    )
