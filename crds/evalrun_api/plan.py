"""RunPlan: a run with nothing left to decide.

A plan is made once, from the spec, the model profile and the benchmarks, and never changed: a
profile that is edited later changes no run that has begun. It is small (at most 32 KiB) because it
travels in a Job's annotation; the files of custom benchmarks travel beside it, named by digest.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field, StringConstraints

from evalrun_api.document import Document, JsonValue, ObjectName, RunName, Sha256, TaskName
from evalrun_api.judge import JudgeSpec
from evalrun_api.sources import ModelSource, VolumePath
from evalrun_api.spec import IntegritySpec, ReasoningTag, SecuritySpec, SeedSpec

PLAN_VERSION: Final = 1
MAX_PLAN_BYTES = 32 * 1024


class RunIdentity(Document):
    """Which run this is."""

    namespace: ObjectName
    name: RunName
    uid: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9\-]+$")]


class ModelPlan(Document):
    """The model object to construct.

    source_arg: the keyword argument of the backend that takes the weights' folder.
    args: all other keyword arguments but batch size and device.
    requires: packages that the backend imports and the runner does not bring (PEP 508).
    """

    backend: TaskName
    source: ModelSource
    source_arg: str
    args: dict[str, JsonValue]
    requires: list[str] = Field(default_factory=list)


class CustomBenchmark(Document):
    """A Benchmark object as this run saw it.

    digest: of the files' names and texts; they are materialised under this name.
    tasks: what the benchmark asks lmms-eval for.
    self_contained: whether its groups take in no task that its files do not define.
    """

    name: ObjectName
    digest: Sha256
    tasks: list[TaskName]
    data: VolumePath | None = None
    self_contained: bool = True


class SettingsGroup(Document):
    """Benchmarks that share what lmms-eval takes once per evaluation.

    One group is one `evaluate()` call and one results file.

    batch_size: requests that the backend answers at once. chunk_size: requests that are journaled
    together, whole batches.
    """

    name: Annotated[str, StringConstraints(pattern=r"^g[0-9]{1,3}$")]
    tasks: Annotated[list[TaskName], Field(min_length=1)]
    limit: int | None = None
    offset: int = 0
    few_shot: int | None = None
    repeats: int = 1
    batch_size: Annotated[int, Field(ge=1)] = 1
    chunk_size: Annotated[int, Field(ge=1)] = 16
    generation: dict[str, JsonValue] = Field(default_factory=dict)


class StorePlan(Document):
    """Where answers and results go.

    uri: s3://BUCKET/PREFIX or file:///ABSOLUTE/FOLDER. Credentials are never part of a plan.
    """

    uri: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    endpoint: str | None = None
    region: str | None = None


class Execution(NamedTuple):
    """How the work is spread: all of a plan that may change while a run is suspended."""

    shards: int
    accelerators: int
    workers: int
    offline: bool
    stall_seconds: int


class RunPlan(Document):
    """Everything that the three steps need to know.

    batch_size: with which the backend is constructed, the largest of the groups'.
    workers: processes of a pod that answer, each with `accelerators / workers` accelerators.
    """

    version: Literal[1] = PLAN_VERSION
    run: RunIdentity
    model: ModelPlan
    force_simple: bool = False
    batch_size: Annotated[int, Field(ge=1)]
    max_batch_size: Annotated[int, Field(ge=1)] | None = None
    accelerators: Annotated[int, Field(ge=0)]
    shards: Annotated[int, Field(ge=1)] = 1
    workers: Annotated[int, Field(ge=1)] = 1
    stall_seconds: Annotated[int, Field(ge=1)] = 1800
    seed: SeedSpec
    system_instruction: str | None = None
    process_with_media: bool = False
    log_samples: bool = True
    few_shot_as_multiturn: bool = False
    apply_chat_template: bool = False
    reasoning_tags: list[ReasoningTag] | None = None
    predict_only: bool = False
    max_tokens: int | None = None
    agentic_trace_mode: Literal["Basic", "Full"] = "Basic"
    judge: JudgeSpec | None = None
    groups: Annotated[list[SettingsGroup], Field(min_length=1, max_length=100)]
    custom_benchmarks: list[CustomBenchmark] = Field(default_factory=list)
    store: StorePlan
    offline: bool = False
    reuse_answers: Literal["Auto", "Never"] = "Auto"
    answers_retention_seconds: int | None = None
    integrity: IntegritySpec = Field(default_factory=IntegritySpec)
    security: SecuritySpec = Field(default_factory=SecuritySpec)

    @property
    def tasks(self) -> list[str]:
        """All benchmark names that lmms-eval is asked for, in order."""
        return [task for group in self.groups for task in group.tasks]

    @property
    def is_only_custom(self) -> bool:
        """Whether every task is a custom benchmark's, so that lmms-eval's own are not needed."""
        customs = self.custom_benchmarks
        named = {task for benchmark in customs for task in benchmark.tasks}
        return set(self.tasks) <= named and all(custom.self_contained for custom in customs)

    @property
    def execution(self) -> Execution:
        """How the work is spread."""
        return Execution(
            self.shards, self.accelerators, self.workers, self.offline, self.stall_seconds
        )

    def spread(self, execution: Execution) -> RunPlan:
        """The same plan, with the work spread so."""
        return self.model_copy(update=execution._asdict())

    @property
    def is_accelerated(self) -> bool:
        """Whether accelerators answer: a CPU rounds otherwise, so the answers are other ones."""
        return self.accelerators > 0

    def asks_the_same(self, other: RunPlan) -> bool:
        """Whether both have the same answers, however the work is spread and where they go."""
        alike = other.spread(self.execution).model_copy(update={"store": self.store})
        return alike == self and other.is_accelerated == self.is_accelerated

    @property
    def is_remote(self) -> bool:
        """Whether a server answers, so that there are no weights."""
        return self.model.source.endpoint is not None
