"""`EvaluationRun.spec`: what a user asks for. Its descriptions are what `kubectl explain` says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from evalrun_api.document import (
    Document,
    JsonValue,
    ObjectName,
    PlainValue,
    QueueName,
    RunName,
    ShortText,
    TaskName,
)
from evalrun_api.judge import JudgeSpec
from evalrun_api.pods import PodSettings
from evalrun_api.sources import ModelSource, ResultsSpec, VolumePath


class ModelSpec(Document):
    """The model under evaluation."""

    CEL = (
        (
            "has(self.profile) || has(self.backend)",
            "set profile (evalrun models lists them) or backend (an lmms-eval model name)",
        ),
    )

    profile: TaskName | None = Field(
        default=None,
        description="Model family whose defaults fill what the run leaves out, for example "
        "qwen2_5_vl.",
    )
    backend: TaskName | None = Field(
        default=None,
        description="lmms-eval model name; overrides the profile's. Needed without a profile.",
    )
    source: ModelSource = Field(description="Where the weights come from.")
    source_argument: (
        Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z_][a-z0-9_]*$")] | None
    ) = Field(
        default=None,
        description="Argument of the backend that takes the weights, for a backend without a "
        "profile; pretrained by default.",
    )
    size: Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?[MB]$")] | None = Field(
        default=None,
        description="Parameters, such as 7B. Chooses accelerators and memory in the profile; "
        "read from the repository's name when left out.",
    )
    args: Annotated[dict[str, PlainValue], Field(max_length=64)] = Field(
        default_factory=dict,
        description="lmms-eval model_args. Weights, secrets and trust_remote_code have fields of "
        "their own and are refused here.",
    )


class BenchmarkReference(Document):
    """A Benchmark object of the run's namespace."""

    name: ObjectName = Field(description="Name of the Benchmark.")


class GenerationSpec(Document):
    """Generation arguments (lmms-eval gen_kwargs); what is left out stays as the task has it."""

    temperature: Annotated[float, Field(ge=0, le=10)] | None = Field(
        default=None, description="Sampling temperature; 0 is greedy."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Nucleus sampling."
    )
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        default=None, description="Sample among this many tokens; 0 is all."
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Longest answer, in tokens."
    )
    do_sample: bool | None = Field(default=None, description="Sample instead of greedy decoding.")
    num_beams: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="Beam search width."
    )
    until: Annotated[list[ShortText], Field(max_length=16)] | None = Field(
        default=None,
        description="Strings that end an answer.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    extra: Annotated[dict[str, PlainValue], Field(max_length=32)] = Field(
        default_factory=dict, description="Further arguments, passed to the backend as they are."
    )


class RequestedBenchmark(Document):
    """One benchmark to answer, and the settings that differ for it from the rest of the run."""

    ONE_OF = ("name", "benchmark_ref")

    name: TaskName | None = Field(
        default=None, description="lmms-eval task, group or tag, for example mme."
    )
    benchmark_ref: BenchmarkReference | None = Field(
        default=None, description="A custom benchmark."
    )
    limit: Annotated[int, Field(ge=1, le=100_000_000)] | None = Field(
        default=None, description="Only this many documents of each task. For trials."
    )
    offset: Annotated[int, Field(ge=0, le=100_000_000)] | None = Field(
        default=None, description="Begin at this document."
    )
    few_shot: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None, description="Worked examples in each prompt."
    )
    repeats: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Answers to each request, for stability metrics."
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="Requests a backend answers at once, for this benchmark alone."
    )
    generation: GenerationSpec | None = Field(
        default=None, description="Generation arguments for this benchmark alone."
    )


class SeedSpec(Document):
    """Seeds, with lmms-eval's own defaults."""

    python: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(
        default=0, description="Python's random."
    )
    numpy: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(default=1234, description="numpy.")
    torch: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(default=1234, description="torch.")
    few_shot: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(
        default=1234, description="Choice of the worked examples."
    )


class ReasoningTag(Document):
    """What marks the part of an answer in which a model thinks aloud."""

    start: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="Opens it, for example <think>."
    )
    end: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="Closes it, for example </think>."
    )


class EvaluationSettings(Document):
    """How lmms-eval evaluates: the rest of what its command line can be told."""

    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="Requests a backend answers at once; from the profile by default."
    )
    max_batch_size: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None,
        description="max_batch_size of the backend, where it has such an argument. Batches are "
        "fixed before the run all the same.",
    )
    few_shot: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None, description="Worked examples in each prompt, for all benchmarks."
    )
    few_shot_as_multiturn: bool = Field(
        default=False, description="Give the worked examples as turns of a conversation."
    )
    apply_chat_template: bool = Field(
        default=False, description="Put text prompts through the model's chat template."
    )
    repeats: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Answers to each request, for all benchmarks."
    )
    seed: SeedSpec = Field(default_factory=SeedSpec, description="Seeds.")
    system_instruction: Annotated[str, StringConstraints(max_length=8192)] | None = Field(
        default=None, description="System instruction put before the prompt."
    )
    force_simple: bool = Field(
        default=False, description="Use the backend's simple form even where it has a chat form."
    )
    process_with_media: bool = Field(
        default=False, description="Give the scorer the documents' media too."
    )
    reasoning_tags: Annotated[list[ReasoningTag], Field(max_length=8)] | None = Field(
        default=None,
        description="What is cut out of answers before they are scored; an empty list cuts "
        "nothing. lmms-eval's own tags, or the task's, by default.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    predict_only: bool = Field(
        default=False, description="Only answer; compute no metric. The run has no score then."
    )
    max_tokens: Annotated[int, Field(ge=1, le=2**53)] | None = Field(
        default=None,
        description="Stop asking once this many tokens are used. Counted by one process, so it "
        "is refused with more than one shard or worker.",
    )
    agentic_trace_mode: Literal["Basic", "Full"] = Field(
        default="Basic", description="What is kept of an agentic benchmark's rounds."
    )
    judge: JudgeSpec | None = Field(
        default=None, description="The model that judges answers, for benchmarks that need one."
    )
    log_samples: bool = Field(
        default=True, description="Keep each document's answer and metrics beside the results."
    )


class ParallelismSpec(Document):
    """How the answering is spread. It never changes an answer."""

    shards: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=1, description="Pods that answer at the same time."
    )
    accelerators_per_shard: Annotated[int, Field(ge=0, le=64)] | None = Field(
        default=None,
        description="Accelerators of one pod; from the profile by default. 0: CPU or endpoint.",
    )
    accelerators_per_worker: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="Accelerators of one worker, a process with a copy of the model; a pod has as "
        "many workers as fit. By default what the profile gives a model of this size, or all of "
        "the pod's where that does not divide them.",
    )
    workers_per_shard: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="Workers of one pod, where accelerators do not say it (CPU, endpoint); 1 by "
        "default.",
    )
    resource_name: Annotated[
        str, StringConstraints(max_length=128, pattern=r"^[a-z0-9.\-]+/[A-Za-z0-9.\-_]+$")
    ] = Field(default="nvidia.com/gpu", description="Extended resource that is an accelerator.")


class CacheSpec(Document):
    """Where weights and datasets are kept between runs."""

    volume: VolumePath | None = Field(
        default=None, description="A volume that all pods may mount (ReadWriteMany)."
    )
    offline: bool = Field(
        default=False, description="Use only what is in the cache; download nothing."
    )
    reuse_answers: Literal["Auto", "Never"] = Field(
        default="Auto",
        description="Auto: an answer that was computed before is not computed again.",
    )


class IntegritySpec(Document):
    """When a score may be trusted."""

    max_invalid_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.01, description="Largest share of invalid answers of a trusted benchmark."
    )
    retries: Annotated[int, Field(ge=0, le=10)] = Field(
        default=1,
        description="How often a request whose answer is empty or failed is asked again, alone.",
    )
    on_violation: Literal["Fail", "Mark"] = Field(
        default="Fail", description="Fail the run, or only mark its score as not trusted."
    )


class SecuritySpec(Document):
    """What the run asks to be allowed. The administrator's policy has to allow it too."""

    trust_remote_code: bool = Field(
        default=False, description="Run Python code that comes with the model's weights."
    )
    allow_online: bool = Field(
        default=False,
        description="Let task code reach the network. Without it the runner refuses what task code "
        "connects to while it scores; while it answers, a NetworkPolicy of the cluster has to.",
    )
    allow_code_execution: bool = Field(
        default=False,
        description="Run Python that a custom benchmark brings, and metrics that execute answers.",
    )


_FIXED = ("model", "benchmarks", "evaluation", "generation", "results", "integrity", "security")
EXECUTION_FIELDS = (
    "parallelism",
    "cache",
    "preparePod",
    "answerPod",
    "scorePod",
    "activeDeadlineSeconds",
    "startDeadlineSeconds",
    "stallSeconds",
    "retryLimit",
    "queueName",
    "cpuQueueName",
    "queuePriorityClassName",
)
"""Of the spec: what may change while the run is suspended."""


def _unchanged(field: str) -> str:
    same = f"has(self.{field}) == has(oldSelf.{field})"
    return f"{same} && (!has(self.{field}) || self.{field} == oldSelf.{field})"


class EvaluationRunSpec(Document):
    """One evaluation of one model on a list of benchmarks."""

    CEL = (
        *(
            (
                _unchanged(field),
                f"{field} cannot change once the run exists; delete the run and apply it again: "
                "finished answers are reused",
            )
            for field in _FIXED
        ),
        *(
            (
                f"({_unchanged(field)}) || (has(oldSelf.suspend) && oldSelf.suspend)",
                f"{field} can change only while the run is suspended; set suspend: true first",
            )
            for field in EXECUTION_FIELDS
        ),
    )

    model: ModelSpec = Field(description="The model under evaluation.")
    benchmarks: Annotated[list[RequestedBenchmark], Field(min_length=1, max_length=100)] = Field(
        description="What it is evaluated on.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    evaluation: EvaluationSettings = Field(
        default_factory=EvaluationSettings, description="How lmms-eval evaluates."
    )
    generation: GenerationSpec | None = Field(
        default=None, description="Generation arguments for all benchmarks."
    )
    parallelism: ParallelismSpec = Field(
        default_factory=ParallelismSpec, description="How the answering is spread."
    )
    prepare_pod: PodSettings | None = Field(
        default=None, description="The pod that validates, downloads and locks. No accelerator."
    )
    answer_pod: PodSettings | None = Field(default=None, description="The pods that answer.")
    score_pod: PodSettings | None = Field(
        default=None, description="The pod that scores. No accelerator."
    )
    cache: CacheSpec = Field(default_factory=CacheSpec, description="Weights, data and answers.")
    results: ResultsSpec | None = Field(
        default=None, description="Where answers and results are written."
    )
    integrity: IntegritySpec = Field(
        default_factory=IntegritySpec, description="When a score may be trusted."
    )
    security: SecuritySpec = Field(
        default_factory=SecuritySpec, description="What the run asks to be allowed."
    )
    suspend: bool = Field(
        default=False, description="Stop and give all accelerators back, losing no answer."
    )
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Longest time of work in all, over suspensions."
    )
    start_deadline_seconds: Annotated[int, Field(ge=1)] = Field(
        default=600, description="Longest time in which a pod has to start."
    )
    stall_seconds: Annotated[int, Field(ge=10)] = Field(
        default=1800,
        description="Longest time without one finished request; a worker that exceeds it is "
        "started anew.",
    )
    retry_limit: Annotated[int, Field(ge=0, le=100)] = Field(
        default=3, description="Failures that each shard may have."
    )
    queue_name: QueueName | None = Field(
        default=None,
        description="Kueue's LocalQueue that the Job which answers waits in, and so its "
        "accelerators. Without it the Job begins at once.",
    )
    cpu_queue_name: QueueName | None = Field(
        default=None,
        description="LocalQueue of the Jobs that hold no accelerators: prepare and score. They "
        "hold no quota of queueName, nor wait in it. Without it they begin at once.",
    )
    queue_priority_class_name: QueueName | None = Field(
        default=None,
        description="Kueue's WorkloadPriorityClass of the queued Jobs: who is admitted first, and "
        "who is preempted. Left out, it is the pods' priorityClassName that counts.",
    )
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="When Jobs and pods of a finished run are deleted."
    )


class Metadata(Document):
    """The part of Kubernetes' metadata that the project reads."""

    model_config = ConfigDict(extra="ignore")

    name: RunName
    namespace: ObjectName = "default"
    uid: Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9\-]+$")] | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    generation: int | None = None


class EvaluationRun(Document):
    """An EvaluationRun as a person writes it, in a file or in a cluster."""

    api_version: Literal["lmms-eval.io/v1alpha1"]
    kind: Literal["EvaluationRun"]
    metadata: Metadata
    spec: EvaluationRunSpec
    status: JsonValue | None = None
