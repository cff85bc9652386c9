"""From a run to its plan: pure, and the only place where a plan is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalrun_api.benchmark import Benchmark
from evalrun_api.checks import (
    Surroundings,
    argument_faults,
    custom_benchmarks,
    generation_faults,
    model_faults,
    name_faults,
    profile_of,
    spreading_faults,
    tasks_of,
)
from evalrun_api.digests import canonical_json, digest
from evalrun_api.errors import Fault, Refused
from evalrun_api.executing import execution_faults
from evalrun_api.plan import (
    MAX_PLAN_BYTES,
    CustomBenchmark,
    ModelPlan,
    RunIdentity,
    RunPlan,
    SettingsGroup,
    StorePlan,
)
from evalrun_api.policy import risky_arguments, security_faults
from evalrun_api.profiles import ResolvedModel, resolve
from evalrun_api.spec import EvaluationRun, EvaluationRunSpec, GenerationSpec, ParallelismSpec


@dataclass(frozen=True)
class Planned:
    """A plan, what it was resolved from, and the files of its custom benchmarks by name."""

    plan: RunPlan
    model: ResolvedModel
    files: dict[str, dict[str, str]]


def make_plan(
    run: EvaluationRun, uid: str, store: StorePlan, surroundings: Surroundings
) -> Planned:
    """Decide everything about a run. Raises `Refused` with every fault found."""
    spec = run.spec
    faults = security_faults(spec.security, surroundings.policy)
    faults += argument_faults(spec.model)
    typed = {fault.where for fault in faults}
    risky = risky_arguments(spec, surroundings.policy)
    faults += [fault for fault in risky if fault.where not in typed]
    profile = profile_of(spec.model, surroundings, faults)
    customs = custom_benchmarks(spec, surroundings, faults)
    faults += name_faults(spec, surroundings.index, customs)
    faults += execution_faults(spec.benchmarks, spec.security.allow_code_execution)
    faults += generation_faults(spec)
    if profile is None:
        raise Refused(faults)
    model = resolve(
        spec.model,
        profile,
        accelerators=spec.parallelism.accelerators_per_shard,
        accelerators_per_worker=spec.parallelism.accelerators_per_worker,
        batch_size=spec.evaluation.batch_size,
    )
    faults += model_faults(spec, model, surroundings.index)
    faults += spreading_faults(spec, model)
    if faults:
        raise Refused(faults)
    groups = _groups(spec, customs, model)
    plan = RunPlan(
        run=RunIdentity(namespace=run.metadata.namespace, name=run.metadata.name, uid=uid),
        model=ModelPlan(
            backend=model.backend,
            source=spec.model.source,
            source_arg=model.source_arg,
            args=model.args,
            requires=list(profile.requires),
        ),
        force_simple=spec.evaluation.force_simple,
        batch_size=max(group.batch_size for group in groups),
        max_batch_size=spec.evaluation.max_batch_size,
        accelerators=model.accelerators,
        shards=spec.parallelism.shards,
        workers=workers(spec.parallelism, model),
        stall_seconds=spec.stall_seconds,
        seed=spec.evaluation.seed,
        system_instruction=spec.evaluation.system_instruction,
        process_with_media=spec.evaluation.process_with_media,
        log_samples=spec.evaluation.log_samples,
        few_shot_as_multiturn=spec.evaluation.few_shot_as_multiturn,
        apply_chat_template=spec.evaluation.apply_chat_template,
        reasoning_tags=spec.evaluation.reasoning_tags,
        predict_only=spec.evaluation.predict_only,
        max_tokens=spec.evaluation.max_tokens,
        agentic_trace_mode=spec.evaluation.agentic_trace_mode,
        judge=spec.evaluation.judge,
        groups=groups,
        custom_benchmarks=[
            CustomBenchmark(
                name=name,
                digest=digest(custom.spec.files),
                tasks=list(custom.spec.tasks),
                data=custom.spec.data.volume if custom.spec.data else None,
                self_contained=not custom.spec.task_files.foreign,
            )
            for name, custom in customs.items()
        ],
        store=store,
        offline=spec.cache.offline,
        reuse_answers=spec.cache.reuse_answers,
        answers_retention_seconds=(
            spec.results.answers_retention_seconds if spec.results else None
        ),
        integrity=spec.integrity,
        security=spec.security,
    )
    size = len(canonical_json(plan.document()))
    if size > MAX_PLAN_BYTES:
        fault = Fault(
            "spec",
            f"the plan takes {size} bytes; {MAX_PLAN_BYTES} fit",
            "Name fewer benchmarks in one run, or use groups",
        )
        raise Refused([fault])
    return Planned(plan, model, {name: dict(custom.spec.files) for name, custom in customs.items()})


def workers(parallelism: ParallelismSpec, model: ResolvedModel) -> int:
    """How many workers a pod has."""
    if model.accelerators == 0:
        return parallelism.workers_per_shard or 1
    return model.accelerators // model.accelerators_per_worker


def generation_arguments(*layers: GenerationSpec | None) -> dict[str, Any]:
    """lmms-eval's gen_kwargs of the given layers; later ones win."""
    merged: dict[str, Any] = {}
    for layer in layers:
        if layer is None:
            continue
        typed = layer.model_dump(exclude={"extra"}, exclude_none=True)
        merged.update(typed)
        merged.update(layer.extra)
    return merged


def _groups(
    spec: EvaluationRunSpec, customs: Mapping[str, Benchmark], model: ResolvedModel
) -> list[SettingsGroup]:
    """Benchmarks gathered by equal settings, in the order in which the settings first appear."""
    gathered: dict[bytes, tuple[dict[str, Any], list[str]]] = {}
    evaluation = spec.evaluation
    for wanted in spec.benchmarks:
        batch = wanted.batch_size or model.batch_size
        settings: dict[str, Any] = {
            "limit": wanted.limit,
            "offset": wanted.offset or 0,
            "few_shot": wanted.few_shot if wanted.few_shot is not None else evaluation.few_shot,
            "repeats": wanted.repeats or evaluation.repeats or 1,
            "batch_size": batch,
            "chunk_size": max(model.chunk_size // batch, 1) * batch,
            "generation": generation_arguments(spec.generation, wanted.generation),
        }
        _, tasks = gathered.setdefault(canonical_json(settings), (settings, []))
        tasks.extend(tasks_of(wanted, customs))
    return [
        SettingsGroup(name=f"g{number}", tasks=tasks, **settings)
        for number, (settings, tasks) in enumerate(gathered.values())
    ]
