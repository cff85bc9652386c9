"""Prepare: everything that can go wrong without an accelerator goes wrong here.

It checks the store, the weights, the backend and the benchmarks, builds every request once, leaves
the documents where the later steps find them, and writes lock.json: what those obey.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.requirements import Requirement

from evalrun_api import reasons
from evalrun_api.digests import canonical_json
from evalrun_api.errors import fail
from evalrun_api.lock import GroupLock, Lock, ModelLock, TaskLock, answers_digest
from evalrun_api.plan import RunPlan, SettingsGroup
from evalrun_runner import layout
from evalrun_runner.data import weights
from evalrun_runner.data.ladder import Packing
from evalrun_runner.journal.reading import count_answered
from evalrun_runner.journal.request_list import Request, by_task, combined, keyed
from evalrun_runner.setting import Setting

log = logging.getLogger(__name__)

ENGINES = ("vllm", "sglang")
"""Packages that do a backend's work, by a part of its name."""


def prepare(setting: Setting) -> Lock:
    """Lock the run. Running it again gives the same lock, or an error if something changed."""
    plan, store, report = setting.plan, setting.store, setting.report
    report.enter("prepare", "checking the store")
    store.check()
    _, revision = weights.locate(plan, setting.places, report.activity, store=store)
    packing = Packing(setting)
    setting.write_plan()
    evaluator = setting.evaluator
    report.activity(f"checking the backend {plan.model.backend}")
    with setting.stage("start"):
        from evalrun_runner.harness.backend import backend_class

        backend_class(plan)
    groups = []
    for group in plan.groups:
        groups.append(census(setting, group))
        packing.note(evaluator.tasks)
    _refuse_repeated_tasks(groups)
    model = ModelLock(revision=revision, model_type=evaluator.model_type)
    versions = package_versions(plan)
    lock = Lock(
        answers=answers_digest(plan, model, versions, groups),
        model=model,
        versions=versions,
        groups=groups,
    )
    packing.finish()
    setting.stop.raise_if_asked()  # a task may have swallowed it, and then it asks otherwise
    _write(setting, lock)
    report.locked(lock)
    report.activity("counting the answers that are there")
    found = count_answered(store, layout.segments(plan.run.namespace, lock.answers))
    report.conclude(answered_before=min(found, lock.requests_total))
    log.info("locked", extra={"answers": lock.answers, "requests": lock.requests_total})
    return lock


def census(setting: Setting, group: SettingsGroup) -> GroupLock:
    """Count and fingerprint the requests of a settings group."""
    from evalrun_runner.harness.backend import check_answers

    setting.report.activity(f"building the requests of {', '.join(group.tasks)}")
    evaluator = setting.evaluator
    found: list[tuple[str, str, list[Request]]] = []

    def respond(request_type: str, instances: list[Any]) -> list[str]:
        requests = keyed(group.name, request_type, instances)
        found.extend((request_type, task, of) for task, of in by_task(requests).items())
        check_answers(setting.plan, request_type)
        return [""] * len(instances)

    documents: dict[str, Any] = {}
    with setting.stage("prepare"):
        evaluator.ask(group, respond, share_task_dict=documents)
        tasks = [
            _task_lock(task, request_type, requests, evaluator.tasks.loaded, documents)
            for request_type, task, requests in found
        ]
    missing = set(evaluator.tasks.loaded) - {task.name for task in tasks}
    if missing:
        where = f"benchmark {', '.join(sorted(missing))}"
        raise fail(reasons.BENCHMARK_UNUSABLE, where, "it asks the model nothing")
    return GroupLock(
        name=group.name, batch_size=group.batch_size, chunk_size=group.chunk_size, tasks=tasks
    )


def _refuse_repeated_tasks(groups: list[GroupLock]) -> None:
    """A task that stands in two settings groups would have two scores under one name."""
    names = Counter(task.name for group in groups for task in group.tasks)
    repeated = sorted(name for name, count in names.items() if count > 1)
    if repeated:
        raise fail(
            reasons.BENCHMARK_UNUSABLE,
            "spec.benchmarks",
            f"{', '.join(repeated)} is asked for more than once, with different settings",
            "Name it once; a group may hold it already",
        )


def _task_lock(
    name: str,
    request_type: str,
    requests: list[Request],
    loaded: dict[str, Any],
    documents: dict[str, Any],
) -> TaskLock:
    from evalrun_runner.harness.digests import documents_digest

    split = requests[0].instance.metadata["split"]
    return TaskLock.model_validate(
        {
            "name": name,
            "version": str(loaded[name].VERSION),
            "requestType": request_type,
            "documents": len({request.key.doc_id for request in requests}),
            "requests": len(requests),
            "sampled": any(is_sampled(request.instance.args) for request in requests),
            "fingerprint": combined(requests),
            "data": documents_digest(documents[name][split]),
        }
    )


def is_sampled(arguments: tuple[Any, ...]) -> bool:
    """Whether a request's generation arguments (the mapping among them) ask for a random draw."""
    for argument in arguments:
        if isinstance(argument, dict):
            temperature = argument.get("temperature")
            warm = isinstance(temperature, int | float) and temperature > 0
            return bool(argument.get("do_sample")) or warm
    return False


def package_versions(plan: RunPlan) -> dict[str, str]:
    """Versions of the packages that can change an answer.

    Of those that not every image has, what is here: images without accelerators may lack engines.
    """
    if plan.is_remote:
        return {"lmms-eval": _public_version("lmms-eval")}
    found = {name: _public_version(name) for name in ("lmms-eval", "torch", "transformers")}
    required = [Requirement(requirement).name for requirement in plan.model.requires]
    for name in [*required, *(engine for engine in ENGINES if engine in plan.model.backend)]:
        with suppress(PackageNotFoundError):
            found[name] = _public_version(name)
    return found


def _public_version(name: str) -> str:
    """torch 2.15.0+cpu prepares for 2.15.0. What else says how one was built can move answers."""
    return version(name).removesuffix("+cpu")


def _write(setting: Setting, lock: Lock) -> None:
    """Write the lock beside the answers, once for all runs that share them, and into the run."""
    plan, store = setting.plan, setting.store
    data = canonical_json(lock.document())
    for key in (layout.lock(plan.run.namespace, lock.answers), layout.lock_of_run(plan.run)):
        if store.create(key, data):
            continue
        if store.get(key) != data:
            raise fail(
                reasons.LOCK_MISMATCH,
                store.uri(key),
                "the run was locked before, and model, data or prompts have changed since",
            )
