"""What can be wrong with a run, found before anything starts: pure functions that list faults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic.alias_generators import to_camel

from evalrun_api.benchmark import Benchmark
from evalrun_api.definitions import defined_faults
from evalrun_api.errors import Fault
from evalrun_api.index import MAX_HINTS, NameIndex, near
from evalrun_api.plan import RunPlan
from evalrun_api.policy import CODE_ARG, CODE_ARG_REMEDY, CODE_ARGS, Policy
from evalrun_api.profiles import GENERIC, ModelProfile, ResolvedModel
from evalrun_api.spec import EvaluationRunSpec, GenerationSpec, ModelSpec, RequestedBenchmark

TYPED_ARGS = {
    "pretrained": "model.source",
    "model_version": "model.source",
    "revision": "model.source.huggingFace.revision",
    "base_url": "model.source.endpoint.url",
    "api_base": "model.source.endpoint.url",
    "azure_endpoint": "model.source.endpoint.url",
    "endpoint": "model.source.endpoint.url",
    "endpoint_url": "model.source.endpoint.url",
    "api_key": "model.source.endpoint.secret",
    "token": "model.source.huggingFace.tokenSecret",
    "hf_token": "model.source.huggingFace.tokenSecret",
    "use_auth_token": "model.source.huggingFace.tokenSecret",
    "trust_remote_code": "security.trustRemoteCode",
    "batch_size": "evaluation.batchSize",
    "device": "parallelism.acceleratorsPerShard",
}
"""model_args that have a field of their own, and which."""

SECRET_ARG = re.compile(r"(api_?key|_token|secret|password)$", re.IGNORECASE)
"""model_args that hold a secret, which must not stand in a plan, a store and an annotation."""


@dataclass(frozen=True)
class Surroundings:
    """What planning takes from around the run."""

    profiles: Mapping[str, ModelProfile]
    index: NameIndex
    policy: Policy
    benchmarks: Mapping[str, Benchmark] = field(default_factory=dict)


def profile_of(
    model: ModelSpec, surroundings: Surroundings, faults: list[Fault]
) -> ModelProfile | None:
    """The profile of the model; None, and a fault, where there is none."""
    if model.profile is None:
        if model.backend is None:
            faults.append(
                Fault(
                    "spec.model",
                    "neither profile nor backend is set",
                    "Set profile to a model family, or backend to an lmms-eval model name",
                )
            )
            return None
        return GENERIC
    profile = surroundings.profiles.get(model.profile)
    if profile is None:
        faults.append(
            Fault(
                "spec.model.profile",
                f"there is no profile {model.profile!r}; "
                + near(model.profile, surroundings.profiles),
                "Known profiles: " + ", ".join(sorted(surroundings.profiles)),
            )
        )
    return profile


def argument_faults(model: ModelSpec) -> list[Fault]:
    """Faults of model.args and of model.sourceArgument."""
    faults = _source_argument_faults(model.source_argument or "")
    for key, value in model.args.items():
        where = f"spec.model.args.{key}"
        if refused := _typed_argument_fault(key):
            faults.append(refused)
        elif key == model.source_argument:
            what = "spec.model.sourceArgument says that it takes the weights"
            faults.append(Fault(where, what, "Leave it out of args"))
        elif not isinstance(value, bool | int | float | str | None):
            faults.append(
                Fault(
                    where,
                    f"{type(value).__name__} cannot be a model argument",
                    "Give a string, a number, true or false",
                )
            )
    return faults


def plan_faults(plan: RunPlan) -> list[Fault]:
    """Arguments that go around a typed field or a key of `spec.security`, in a plan.

    The operator refuses them in a spec; the runner looks again, for its plan came by way of a
    ConfigMap, an annotation and a file.
    """
    faults = _source_argument_faults(plan.model.source_arg)
    for key in plan.model.args:
        if refused := _typed_argument_fault(key):
            faults.append(refused)
        elif key in CODE_ARGS and not plan.security.allow_code_execution:
            faults.append(Fault(f"spec.model.args.{key}", CODE_ARG, CODE_ARG_REMEDY))
    return faults


def _source_argument_faults(taking: str) -> list[Fault]:
    if TYPED_ARGS.get(taking, "model.source") == "model.source" and not SECRET_ARG.search(taking):
        return []
    what = f"{taking!r} takes no weights: it has a field of its own"
    remedy = "Name the backend's argument for the folder or name of its weights"
    return [Fault("spec.model.sourceArgument", what, remedy)]


def _typed_argument_fault(key: str) -> Fault | None:
    """Why an argument may not stand in model.args, whatever its value: that is not shown."""
    where = f"spec.model.args.{key}"
    if key in TYPED_ARGS:
        return Fault(where, "it has a field of its own", f"Use spec.{TYPED_ARGS[key]} instead")
    if SECRET_ARG.search(key):
        remedy = (
            "Use spec.model.source.endpoint.secret for a server, or "
            "spec.model.source.huggingFace.tokenSecret for the hub"
        )
        return Fault(where, "it is a secret, and plans are not", remedy)
    return None


def model_faults(spec: EvaluationRunSpec, model: ResolvedModel, index: NameIndex) -> list[Fault]:
    """Contradictions between the run and what its profile and backend can do."""
    faults = []
    if model.backend not in index.backends:
        faults.append(
            Fault(
                "spec.model.backend" if spec.model.backend else "spec.model.profile",
                f"lmms-eval {index.lmms_eval} has no backend {model.backend!r}; "
                + near(model.backend, index.backends),
                "Use the name of an lmms-eval model",
            )
        )
    has_endpoint = spec.model.source.endpoint is not None
    if model.endpoint and not has_endpoint:
        faults.append(
            Fault(
                "spec.model.source",
                f"profile {spec.model.profile} asks a server, and the source is not one",
                "Set source.endpoint with url and model",
            )
        )
    if has_endpoint and not model.endpoint:
        faults.append(
            Fault(
                "spec.model.source.endpoint",
                f"backend {model.backend} loads weights and cannot ask a server",
                "Use profile: openai, or a source that holds weights",
            )
        )
    if has_endpoint and model.accelerators > 0:
        faults.append(
            Fault(
                "spec.parallelism.acceleratorsPerShard",
                f"{model.accelerators} accelerators would stand idle while a server answers",
                "Leave it out, or set it to 0",
            )
        )
    if model.accelerator_only and model.accelerators == 0:
        faults.append(
            Fault(
                "spec.parallelism.acceleratorsPerShard",
                f"backend {model.backend} cannot run without an accelerator",
                "Set it to 1, or leave it out",
            )
        )
    batches = [("spec.evaluation.batchSize", model.batch_size)] + [
        (f"spec.benchmarks[{position}].batchSize", wanted.batch_size or 0)
        for position, wanted in enumerate(spec.benchmarks)
    ]
    for where, batch in batches:
        if model.max_batch_size and batch > model.max_batch_size:
            faults.append(
                Fault(
                    where,
                    f"backend {model.backend} refuses batches above {model.max_batch_size}",
                    f"Set it to at most {model.max_batch_size}, or leave it out",
                )
            )
    return faults


def spreading_faults(spec: EvaluationRunSpec, model: ResolvedModel) -> list[Fault]:
    """Contradictions in how the work is spread over shards, workers and accelerators."""
    faults = []
    asked = spec.parallelism
    accelerators, per_worker = model.accelerators, model.accelerators_per_worker
    where = "spec.parallelism"
    if accelerators and accelerators % per_worker:
        faults.append(
            Fault(
                f"{where}.acceleratorsPerWorker",
                f"{accelerators} accelerators do not divide into workers of {per_worker}",
                f"Set acceleratorsPerShard to a multiple of {per_worker}",
            )
        )
    elif accelerators and asked.workers_per_shard not in (None, accelerators // per_worker):
        faults.append(
            Fault(
                f"{where}.workersPerShard",
                f"{accelerators} accelerators of {per_worker} a worker make "
                f"{accelerators // per_worker} workers",
                "Leave it out where there are accelerators: acceleratorsPerWorker decides",
            )
        )
    if not accelerators and asked.accelerators_per_worker is not None:
        faults.append(
            Fault(
                f"{where}.acceleratorsPerWorker",
                "the run has no accelerators",
                "Leave it out, or use workersPerShard",
            )
        )
    several = asked.shards > 1 or (asked.workers_per_shard or 1) > 1 or accelerators > per_worker
    if spec.evaluation.max_tokens is not None and several:
        faults.append(
            Fault(
                "spec.evaluation.maxTokens",
                "tokens are counted by one process, and this run has several",
                "Use one shard with one worker, or leave it out",
            )
        )
    return faults


def custom_benchmarks(
    spec: EvaluationRunSpec, surroundings: Surroundings, faults: list[Fault]
) -> dict[str, Benchmark]:
    """The Benchmarks that the run refers to, by name; faults are added to `faults`."""
    found: dict[str, Benchmark] = {}
    for position, wanted in enumerate(spec.benchmarks):
        if wanted.benchmark_ref is None:
            continue
        where = f"spec.benchmarks[{position}].benchmarkRef.name"
        name = wanted.benchmark_ref.name
        custom = surroundings.benchmarks.get(name)
        if custom is None:
            what = f"there is no Benchmark {name!r}"
            if len(faults) < MAX_HINTS:
                what += "; " + near(name, surroundings.benchmarks)
            faults.append(Fault(where, what, "Give its file too, or apply it first"))
            continue
        if custom.spec.has_code and not spec.security.allow_code_execution:
            faults.append(
                Fault(
                    where,
                    f"Benchmark {name} brings Python code",
                    "Read the code, then set spec.security.allowCodeExecution: true",
                )
            )
        found[name] = custom
    faults += defined_faults(found, surroundings.index)
    return found


def tasks_of(wanted: RequestedBenchmark, customs: Mapping[str, Benchmark]) -> list[str]:
    """What an entry of spec.benchmarks asks lmms-eval for."""
    if wanted.name is not None:
        return [wanted.name]
    assert wanted.benchmark_ref is not None
    custom = customs.get(wanted.benchmark_ref.name)
    return list(custom.spec.tasks) if custom else []


def name_faults(
    spec: EvaluationRunSpec, index: NameIndex, customs: Mapping[str, Benchmark]
) -> list[Fault]:
    """Benchmarks that lmms-eval does not know, or that are asked for twice."""
    faults: list[Fault] = []
    seen: dict[str, int] = {}
    for position, wanted in enumerate(spec.benchmarks):
        where = f"spec.benchmarks[{position}]"
        if wanted.name is not None and wanted.name not in index.benchmarks:
            what = f"lmms-eval {index.lmms_eval} has no task, group or tag {wanted.name!r}"
            if len(faults) < MAX_HINTS:
                what += "; " + near(wanted.name, index.benchmarks)
            faults.append(
                Fault(
                    f"{where}.name",
                    what,
                    "Use a name that lmms-eval knows, or define a Benchmark and use benchmarkRef",
                )
            )
        for task in tasks_of(wanted, customs):
            if task in seen:
                faults.append(
                    Fault(
                        where,
                        f"{task} is already asked for by spec.benchmarks[{seen[task]}]",
                        "Name each benchmark once in a run",
                    )
                )
            seen.setdefault(task, position)
    return faults


def generation_faults(spec: EvaluationRunSpec) -> list[Fault]:
    """Generation arguments that contradict each other, or stand where they have no place."""
    places = [("spec.generation", spec.generation)] + [
        (f"spec.benchmarks[{position}].generation", wanted.generation)
        for position, wanted in enumerate(spec.benchmarks)
    ]
    faults = []
    for where, generation in places:
        if generation is not None:
            faults += _sampling_faults(where, generation)
            faults += _extra_faults(f"{where}.extra", generation.extra)
    return faults


def _sampling_faults(where: str, generation: GenerationSpec) -> list[Fault]:
    if generation.do_sample is False and (generation.temperature or 0) > 0:
        what = f"{generation.temperature} contradicts doSample: false"
        remedy = "Set temperature to 0, or doSample to true"
        return [Fault(f"{where}.temperature", what, remedy)]
    if generation.do_sample is True and generation.temperature == 0:
        what = "true contradicts temperature: 0"
        remedy = "Set a temperature above 0, or leave doSample out"
        return [Fault(f"{where}.doSample", what, remedy)]
    return []


def _extra_faults(where: str, extra: Mapping[str, Any]) -> list[Fault]:
    typed = {name: to_camel(name) for name in GenerationSpec.model_fields if name != "extra"}
    faults = []
    for key, value in extra.items():
        if key in typed or key in typed.values():
            field_name = typed.get(key, key)
            remedy = f"Use {where.removesuffix('.extra')}.{field_name} instead"
            faults.append(Fault(f"{where}.{key}", "it has a field of its own", remedy))
        elif value is None:
            remedy = "Leave it out: the task's own value then holds"
            faults.append(Fault(f"{where}.{key}", "null is no value for an argument", remedy))
    return faults
