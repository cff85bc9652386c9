"""Whether a run may begin: its spec, the release's names and the administrator's policy."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from evalrun_api.benchmark import Benchmark
from evalrun_api.checks import Surroundings, model_faults, spreading_faults
from evalrun_api.errors import EvalrunError, Fault, Refused
from evalrun_api.index import builtin_index, near
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.plan import RunIdentity, RunPlan, StorePlan
from evalrun_api.planning import make_plan
from evalrun_api.policy import cluster_faults, security_faults
from evalrun_api.profiles import GENERIC, builtin_profiles, resolve
from evalrun_api.reading import read
from evalrun_api.sources import S3Store
from evalrun_api.spec import EvaluationRun
from evalrun_operator.decisions import Doc, Snapshot
from evalrun_operator.snapshot import config_map_name, make_snapshot, refuse_too_large

VOLUMES_ROOT = "/volumes"
"""Claims are mounted beneath it by name; the runner looks for them there."""


def read_run(document: Doc) -> EvaluationRun:
    """The run as a document. Raises `Refused`."""
    parts = ("apiVersion", "kind", "metadata", "spec")
    return read(EvaluationRun, {part: document[part] for part in parts if part in document})


def benchmark_names(run: EvaluationRun) -> tuple[str, ...]:
    """Names of the Benchmarks that a run refers to."""
    wanted = (entry.benchmark_ref for entry in run.spec.benchmarks)
    return tuple(dict.fromkeys(reference.name for reference in wanted if reference))


def admit(
    run: EvaluationRun, uid: str, benchmarks: Mapping[str, Benchmark], config: OperatorConfig
) -> tuple[Snapshot, Doc]:
    """The run's snapshot, and the data of the ConfigMap that keeps it.

    Raises `Refused` with every fault of the run.
    """
    # Before a digest is made of files that are too large by far: that would take seconds.
    texts = (text for custom in benchmarks.values() for text in custom.spec.files.values())
    refuse_too_large(sum(map(len, texts)))
    faults = cluster_faults(run.spec, config.policy)
    store = StorePlan(uri="file:///unknown")
    try:
        store = store_plan(run, config)
    except Refused as refused:
        faults += refused.faults
    surroundings = Surroundings(builtin_profiles(), builtin_index(), config.policy, benchmarks)
    try:
        planned = make_plan(run, uid, store, surroundings)
    except Refused as refused:
        raise Refused([*faults, *refused.faults]) from refused
    if faults:
        raise Refused(faults)
    return make_snapshot(planned.plan, planned.files)


def check_again(
    run: EvaluationRun, uid: str, given: RunPlan, plan: RunPlan, config: OperatorConfig
) -> None:
    """Hold a run against the policy before a Job of it is created. Raises `Refused`.

    given: the snapshot's plan. plan: the same, spread as the run now says. A suspended run may
    change its pods and its parallelism, and its plan comes from a ConfigMap: neither may bring in
    what admission would have refused.
    """
    spec = run.spec
    faults = cluster_faults(spec, config.policy) + security_faults(spec.security, config.policy)
    try:
        s3_store(run, config)
    except Refused as refused:
        faults += refused.faults
    profile = builtin_profiles().get(spec.model.profile or "", GENERIC)
    model = resolve(
        spec.model,
        profile,
        accelerators=plan.accelerators,
        accelerators_per_worker=spec.parallelism.accelerators_per_worker,
        batch_size=spec.evaluation.batch_size,
    )
    found = model_faults(spec, model, builtin_index())
    faults += [fault for fault in found if fault.where.startswith("spec.parallelism")]
    faults += spreading_faults(spec, model)
    if plan.is_accelerated != given.is_accelerated:
        what = (
            f"{given.accelerators} when the run began and {plan.accelerators} now: their number may"
            " change, but not to or from 0, since a CPU gives other answers than an accelerator"
        )
        remedy = "Delete the run and apply it again with this number"
        faults.append(Fault("spec.parallelism.acceleratorsPerShard", what, remedy))
    began, each = given.accelerators // given.workers, plan.accelerators // plan.workers
    spreading = sorted(profile.multi_args.keys() - spec.model.args.keys())
    if began == 1 < each and spreading:
        what = (
            f"a worker had 1 accelerator when the run began, and gets {each} now: arguments that "
            f"spread a model over several ({', '.join(spreading)}) are part of its plan"
        )
        remedy = "Leave it at 1, or apply the run again under a new name: answers are reused"
        faults.append(Fault("spec.parallelism.acceleratorsPerWorker", what, remedy))
    identity = RunIdentity(namespace=run.metadata.namespace, name=run.metadata.name, uid=uid)
    same = (plan.run, plan.model.source, plan.security) == (
        identity,
        spec.model.source,
        spec.security,
    )
    if not same:
        where = f"configmap {config_map_name(run.metadata.name)}"
        what = "it holds a plan that is not this run's"
        faults.append(Fault(where, what, "Delete it and the run, then apply the run again"))
    if faults:
        raise Refused(faults)


def store_plan(run: EvaluationRun, config: OperatorConfig) -> StorePlan:
    """Where the run's answers and results go. Raises `Refused`."""
    results = run.spec.results
    volume = results.volume if results else None
    if volume is not None:
        path = f"/{volume.path}" if volume.path else ""
        # Quoted, as the runner takes it for an address: x%2f..%2fy is the name of one folder.
        return StorePlan(uri=f"file://{quote(f'{VOLUMES_ROOT}/{volume.claim_name}{path}')}")
    store = s3_store(run, config)
    if store is None:
        raise AssertionError("results names no store, which its own document forbids")
    return StorePlan(uri=store.uri, endpoint=store.endpoint, region=store.region)


def s3_store(run: EvaluationRun, config: OperatorConfig) -> S3Store | None:
    """The bucket that a run writes to; None when it writes to a volume. Raises `Refused`."""
    results = run.spec.results
    if results is not None and results.volume is not None:
        return None
    if results is not None and results.s3 is not None:
        return results.s3
    name = results.store if results is not None else config.default_store
    if name is None:
        what = "the run names no store, and the operator's configuration has no default"
        raise Refused([Fault("spec.results", what, "Set results.store; " + _known(config))])
    if name not in config.stores:
        what = f"there is no store {name!r}; {near(name, config.stores)}"
        raise Refused([Fault("spec.results.store", what, _known(config))])
    return config.stores[name].of(run.metadata.namespace)


def _known(config: OperatorConfig) -> str:
    names = ", ".join(sorted(config.stores)) or "none: ask the administrator"
    return f"Stores of this cluster: {names}"


def explain(error: EvalrunError) -> str:
    """The faults for a condition's message."""
    return "\n".join(str(fault) for fault in error.faults)
