"""The pods of a step: what a run may set of them, and what is fixed."""

from __future__ import annotations

import json
import math

from evalrun_api.judge import JUDGE_KEY_VARIABLE
from evalrun_api.names import (
    ACCELERATORS_ANNOTATION,
    CONTAINER,
    HTTP_PORT,
    PLAN_ANNOTATION,
    RUNNER_PATH,
)
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.plan import RunPlan
from evalrun_api.pods import ENV_FROM_PREFIX, PodSettings, Resources
from evalrun_api.profiles import GENERIC, ResolvedModel, builtin_profiles, resolve
from evalrun_api.spec import EvaluationRun
from evalrun_operator import identity
from evalrun_operator.admission import s3_store
from evalrun_operator.decisions import Doc, Snapshot
from evalrun_operator.mounts import CACHE, cache_kind, mounts
from evalrun_operator.steps import ALL, ANSWER, PREPARE, SCORE, StepKind

DEFAULT_USER = 65532
DEFAULT_GRACE_SECONDS = 60
FLUSH_SECONDS = 20
"""Kept of the grace period for storing what is finished."""
LOST_NODE_SECONDS = 60
"""How long a pod stays bound to a node that does not answer."""

UNITS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    f"{unit}i": 1024.0**power for power, unit in enumerate("KMGT", 1)
}
MAX_THREADS = 1024

LIGHT = Resources(cpu="1", memory="4Gi")
"""Of the steps without a model: importing lmms-eval takes 1 GiB, its documents the rest."""


def settings_of(run: EvaluationRun, kind: StepKind) -> PodSettings:
    """What the run says of the pods of a step.

    An image of the answering pods is that of the others too, unless they name their own: all steps
    have to find the same lmms-eval.
    """
    spec = run.spec
    answering = spec.answer_pod or PodSettings()
    if kind in (ANSWER, ALL):
        return answering
    own = (spec.prepare_pod if kind is PREPARE else spec.score_pod) or PodSettings()
    if own.image is not None or answering.image is None:
        return own
    return own.model_copy(
        update={
            "image": answering.image,
            "image_pull_policy": own.image_pull_policy or answering.image_pull_policy,
            "image_pull_secrets": own.image_pull_secrets or answering.image_pull_secrets,
        }
    )


def pod_template(
    run: EvaluationRun,
    kind: StepKind,
    plan: RunPlan,
    snapshot: Snapshot,
    config: OperatorConfig,
    labels: dict[str, str],
) -> Doc:
    """The template of a step's pods."""
    settings = settings_of(run, kind)
    accelerators = plan.accelerators if kind.holds_accelerators else 0
    light = config.images.cpu if kind not in (ANSWER, ALL) else None
    image = settings.image or light or config.images.runner
    user = settings.run_as_user or DEFAULT_USER
    grace = settings.termination_grace_period_seconds or DEFAULT_GRACE_SECONDS
    workers = plan.workers if kind in (ANSWER, ALL) else 1
    resources = _resources(run, kind, settings.resources or Resources(), workers)
    volumes, volume_mounts = mounts(
        run, snapshot, _shared_memory(run, kind, workers), config.node_cache
    )
    tokens, token_mounts = identity.volumes(s3_store(run, config))
    volumes += tokens
    volume_mounts += token_mounts
    container: Doc = {
        "name": CONTAINER,
        "image": image,
        "command": [RUNNER_PATH],
        "args": _arguments(kind, grace, cache_kind(run, config.node_cache)),
        "env": _environment(run, kind, settings, config, _threads(resources, workers)),
        "resources": _requirements(resources, accelerators, run.spec.parallelism.resource_name),
        "ports": [{"name": "http", "containerPort": HTTP_PORT}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": volume_mounts,
    }
    if settings.image_pull_policy:
        container["imagePullPolicy"] = settings.image_pull_policy
    if settings.env_from:
        container["envFrom"] = [
            {"prefix": ENV_FROM_PREFIX, "secretRef": {"name": source.secret_name}}
            for source in settings.env_from
        ]
    spec: Doc = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": settings.fs_group or user,
            # Without it a volume of many files is walked at every start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
        "tolerations": _tolerations(settings),
    }
    spec |= _placement(settings)
    return {
        "metadata": {
            "labels": {**settings.labels, **labels},
            "annotations": {
                **settings.annotations,
                PLAN_ANNOTATION: json.dumps(plan.document(), separators=(",", ":")),
                ACCELERATORS_ANNOTATION: str(accelerators),
            },
        },
        "spec": spec,
    }


def _arguments(kind: StepKind, grace: int, cache: str) -> list[str]:
    options = {
        "--plan": "/plan/plan.json",
        "--benchmarks": "/benchmarks",
        "--work": "/work",
        "--listen": f":{HTTP_PORT}",
        "--termination-log": "/dev/termination-log",
        "--grace-seconds": str(max(grace - FLUSH_SECONDS, grace // 2, 1)),
        "--writer": "$(POD_UID)",
    }
    if kind is not ALL:  # one process finds what it fetched
        options["--cache"] = cache
    if kind.indexed:
        options["--shard"] = "$(JOB_COMPLETION_INDEX)"
    return [kind.command, *(part for option in options.items() for part in option)]


def _environment(
    run: EvaluationRun,
    kind: StepKind,
    settings: PodSettings,
    config: OperatorConfig,
    threads: int,
) -> list[Doc]:
    """Environment variables. Those of the run win over defaults, not over what the steps rest on.

    Reserved names are not among the run's. threads: of one process.
    """
    cache = "/work/.cache" if cache_kind(run, config.node_cache) == "pod" else CACHE
    plain = {
        "HOME": "/work",
        "HF_HOME": f"{cache}/huggingface",
        "XDG_CACHE_HOME": "/work/.cache",
        "NUMBA_CACHE_DIR": "/work/.cache/numba",
        "OMP_NUM_THREADS": str(threads),
        **{variable.name: variable.value for variable in settings.env},
    }
    entries: dict[str, Doc] = {
        **{name: {"value": value} for name, value in plain.items()},
        # After the run's own: segments of the journal are named by it.
        "POD_UID": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
    }
    if kind.indexed:  # the Job controller would add it behind the arguments that name it
        path = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        entries["JOB_COMPLETION_INDEX"] = {"valueFrom": {"fieldRef": {"fieldPath": path}}}
    if config.hub_endpoint:
        entries["HF_ENDPOINT"] = {"value": config.hub_endpoint}
    source = run.spec.model.source
    if source.hugging_face and source.hugging_face.token_secret:
        secret = source.hugging_face.token_secret
        entries["HF_TOKEN"] = _from_secret(secret.name, secret.key)
    if source.endpoint:
        # Clients of this API refuse to start without a key, also where the server wants none.
        key = source.endpoint.secret
        entries["OPENAI_API_KEY"] = _from_secret(key.name, key.key) if key else {"value": "none"}
    judge = run.spec.evaluation.judge
    if judge is not None and judge.secret is not None and kind in (SCORE, ALL):
        # Nobody else judges, so nobody else is given the key.
        entries[JUDGE_KEY_VARIABLE] = _from_secret(judge.secret.name, judge.secret.key)
    store = s3_store(run, config)
    if store is not None and store.secret_name:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            entries[name] = _from_secret(store.secret_name, name)
        entries["AWS_EC2_METADATA_DISABLED"] = {"value": "true"}
    entries |= identity.variables(store)
    return [{"name": name, **entry} for name, entry in entries.items()]


def _from_secret(name: str, key: str) -> Doc:
    return {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def _resolved(run: EvaluationRun) -> ResolvedModel:
    model = run.spec.model
    profile = builtin_profiles().get(model.profile or "", GENERIC)
    return resolve(
        model,
        profile,
        accelerators=run.spec.parallelism.accelerators_per_shard,
        accelerators_per_worker=run.spec.parallelism.accelerators_per_worker,
        batch_size=run.spec.evaluation.batch_size,
    )


def _resources(run: EvaluationRun, kind: StepKind, asked: Resources, workers: int) -> Resources:
    """CPU, memory and disk of a pod: the run's, else what the profile says of one model.

    Every worker is a process with libraries, media and a copy of the weights of its own, which pass
    through its memory or stay there; so what one model needs is needed by each.
    """
    memory, cpu = LIGHT.memory, LIGHT.cpu
    if kind in (ANSWER, ALL) and run.spec.model.source.endpoint is None:
        model = _resolved(run)
        memory = model.memory or LIGHT.memory
        cpu = str(max(4 * model.accelerators, 2 * workers))
    elif kind in (ANSWER, ALL):
        cpu = str(workers)
    assert memory is not None
    return asked.model_copy(
        update={"memory": asked.memory or times(memory, workers), "cpu": asked.cpu or cpu},
    )


def times(quantity: str, number: int) -> str:
    """So many times a quantity that is a whole number of a unit."""
    digits = quantity.rstrip("".join(UNITS))
    if number == 1 or not digits.isdecimal():
        return quantity
    return f"{int(digits) * number}{quantity.removeprefix(digits)}"


def _requirements(resources: Resources, accelerators: int, resource_name: str) -> Doc:
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    if resources.cpu:
        requests["cpu"] = resources.cpu  # no limit: throttling helps nobody
    if resources.memory:
        requests["memory"] = limits["memory"] = resources.memory
    if resources.ephemeral_storage:
        requests["ephemeral-storage"] = resources.ephemeral_storage
        limits["ephemeral-storage"] = resources.ephemeral_storage
    if accelerators:
        limits[resource_name] = str(accelerators)
    return {"requests": requests, "limits": limits}


def _threads(resources: Resources, workers: int) -> int:
    """Threads of a process for its part of the CPUs asked for.

    A library would start one for each CPU of the node.
    """
    cpu = resources.cpu or "1"
    number = cpu.rstrip("".join(UNITS))
    whole = math.floor(float(number) * UNITS.get(cpu.removeprefix(number), 1) / workers)
    return min(max(whole, 1), MAX_THREADS)


def _shared_memory(run: EvaluationRun, kind: StepKind, workers: int) -> str | None:
    settings = settings_of(run, kind)
    if settings.shared_memory or kind not in (ANSWER, ALL):
        return settings.shared_memory
    of_one = _resolved(run).shared_memory
    return times(of_one, workers) if of_one else None


def _tolerations(settings: PodSettings) -> list[Doc]:
    wanted = [entry.document() for entry in settings.tolerations]
    named = {entry.get("key") for entry in wanted}
    lost = [
        {
            "key": f"node.kubernetes.io/{trouble}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": LOST_NODE_SECONDS,
        }
        for trouble in ("not-ready", "unreachable")
    ]
    return wanted + [entry for entry in lost if entry["key"] not in named]


def _placement(settings: PodSettings) -> Doc:
    values: Doc = {
        "nodeSelector": settings.node_selector,
        "affinity": settings.affinity,
        "priorityClassName": settings.priority_class_name,
        "serviceAccountName": settings.service_account_name,
        "runtimeClassName": settings.runtime_class_name,
        "schedulerName": settings.scheduler_name,
        "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
    }
    return {name: value for name, value in values.items() if value}
