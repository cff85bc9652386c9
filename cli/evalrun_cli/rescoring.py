"""From an old run in a store to the work of scoring its answers again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

from evalrun_api import reasons
from evalrun_api.digests import canonical_json, digest
from evalrun_api.errors import Fault, Refused, fail
from evalrun_api.lock import Lock
from evalrun_api.plan import CustomBenchmark, RunIdentity, RunPlan, StorePlan
from evalrun_cli import records, volumes
from evalrun_cli.destination import StoreChoice
from evalrun_cli.listing import existing_store_plan
from evalrun_cli.running import Work
from evalrun_runner.local import Store, layout, open_store


def prepare_score(
    choice: StoreChoice, namespace: str, name: str, uid: str | None, given: Sequence[str]
) -> Work:
    """Make a new attempt of an old run, with its plan and its lock, in the store.

    Raises `EvalrunError` when the run, its benchmarks or the volumes are not there.
    """
    directory = Path.cwd()
    target = existing_store_plan(choice)
    store = open_store(target)
    old = scorable(store, namespace, name, uid)
    plan = records.read(store, layout.plan(old), RunPlan)
    lock = records.read(store, layout.lock_of_run(old), Lock)
    files = {custom.name: benchmark_files(store, old, custom) for custom in plan.custom_benchmarks}
    folders = volumes.parse(given, directory)
    uses = volumes.uses_of_plan(plan, directory)
    mounts = volumes.mounts(uses, folders)
    if faults := [*volumes.unused(uses, folders), *volumes.missing(mounts)]:
        raise Refused(faults)
    again = renewed(plan, str(uuid.uuid4()), target)
    folder = layout.run(again.run)
    for name, texts in files.items():
        for file, text in texts.items():
            store.put(f"{folder}/benchmarks/{name}/{file}", text.encode())
    store.put(layout.plan(again.run), canonical_json(again.document()))
    store.put(layout.lock_of_run(again.run), canonical_json(lock.document()))
    return Work(again, files, {mount.claim: mount.folder for mount in mounts})


def scorable(store: Store, namespace: str, name: str, uid: str | None) -> RunIdentity:
    """The finished run that `records.newest` names, or the one unfinished run that was locked."""
    locked = [
        attempt
        for attempt in records.attempts(store, namespace, name)
        if "lock.json" in attempt.documents and attempt.run.uid.startswith(uid or "")
    ]
    if len(locked) == 1:
        return locked[0].run
    return records.newest(store, namespace, name, uid).run


def renewed(plan: RunPlan, uid: str, store: StorePlan) -> RunPlan:
    """The same plan as another attempt, in the store as it was found now."""
    run = plan.run.model_copy(update={"uid": uid})
    return plan.model_copy(update={"run": run, "store": store})


def benchmark_files(store: Store, run: RunIdentity, custom: CustomBenchmark) -> dict[str, str]:
    """The task files that a run was given; raises `EvalrunError` unless they are just those."""
    prefix = f"{layout.run(run)}/benchmarks/{custom.name}/"
    files = {}
    for key in store.list(prefix):
        raw = store.get(key)
        if raw is not None:
            files[key.removeprefix(prefix)] = raw.decode(errors="replace")
    where = store.uri(prefix)
    remedy = "Run it again with evalrun run and its manifests: stored answers are reused"
    if not files:
        what = f"the files of Benchmark {custom.name} are not in the store"
        raise Refused([Fault(where, what, remedy)])
    if digest(files) != custom.digest:
        what = f"the files of Benchmark {custom.name} are not those that the run was given"
        raise fail(reasons.CORRUPT_STORE, where, what, remedy)
    return files
