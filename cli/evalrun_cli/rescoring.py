"""From an old run in a store to the work of scoring its answers again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from evalrun_api import reasons
from evalrun_api.benchmark import BenchmarkData, BenchmarkSpec, FileName
from evalrun_api.digests import canonical_json, digest
from evalrun_api.errors import Fault, Refused, fail
from evalrun_api.executing import executes
from evalrun_api.lock import Lock
from evalrun_api.plan import CustomBenchmark, RunIdentity, RunPlan, StorePlan
from evalrun_api.reading import read
from evalrun_cli import records, volumes
from evalrun_cli.destination import StoreChoice
from evalrun_cli.listing import existing_store_plan
from evalrun_cli.running import Work
from evalrun_runner.local import Store, layout, open_store

_FILE_NAME: TypeAdapter[str] = TypeAdapter(FileName)


def prepare_score(
    choice: StoreChoice,
    namespace: str,
    name: str,
    uid: str | None,
    given: Sequence[str],
    *,
    allow_code: bool,
    allow_online: bool = False,
) -> Work:
    """Make a new attempt of an old run, with its plan and its lock, in the store.

    Raises `EvalrunError` when the run, its benchmarks or the volumes are not there, and when the
    benchmarks hold code and `allow_code` is not set. allow_online: as the run's field.
    """
    directory = Path.cwd()
    target = existing_store_plan(choice)
    store = open_store(target)
    old = scorable(store, namespace, name, uid)
    plan = records.read(store, layout.plan(old), RunPlan)
    lock = records.read(store, layout.lock_of_run(old), Lock)
    refuse_without_answers(store, old, lock)
    files = {custom.name: benchmark_files(store, old, custom) for custom in plan.custom_benchmarks}
    faults = code_faults(store, old, plan, files)
    if faults and not allow_code:
        raise Refused(faults)
    folders = volumes.parse(given, directory)
    uses = volumes.uses_of_plan(plan, directory)
    mounts = volumes.mounts(uses, folders)
    if faults := [*volumes.unused(uses, folders), *volumes.missing(mounts)]:
        raise Refused(faults)
    again = renewed(plan, str(uuid.uuid4()), target, code=allow_code, online=allow_online)
    folder = layout.run(again.run)
    for benchmark, texts in files.items():
        for file, text in texts.items():
            store.put(f"{folder}/benchmarks/{benchmark}/{file}", text.encode())
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


def refuse_without_answers(store: Store, run: RunIdentity, lock: Lock) -> None:
    """Raise `EvalrunError` where the store holds none of the run's answers.

    That some are missing is found, and said, when the requests are built again.
    """
    prefix = layout.segments(run.namespace, lock.answers)
    if next(iter(store.list(prefix)), None) is None:
        what = f"the store holds no answer of run {run.name}; its {lock.requests_total:,} requests "
        what += "were not asked, or their answers were deleted (evalrun gc) or lie in another store"
        remedy = "Name that store with --store, or run it again: evalrun run"
        raise fail(reasons.MISSING_ANSWERS, store.uri(prefix), what, remedy)


def renewed(plan: RunPlan, uid: str, store: StorePlan, *, code: bool, online: bool) -> RunPlan:
    """The same plan as another attempt, in the store as it was found now.

    code, online: whoever scores it allows what the plan may have been made without.
    """
    run = plan.run.model_copy(update={"uid": uid})
    before = plan.security
    allowed = {
        "allow_code_execution": before.allow_code_execution or code,
        "allow_online": before.allow_online or online,
    }
    security = before.model_copy(update=allowed)
    return plan.model_copy(update={"run": run, "store": store, "security": security})


def benchmark_files(store: Store, run: RunIdentity, custom: CustomBenchmark) -> dict[str, str]:
    """The task files that a run was given; raises `EvalrunError` unless they are just those.

    Whoever may write to a bucket may name an object `…/../../.bashrc`: a name that the contract
    does not allow becomes no path of this machine.
    """
    prefix = _folder_of(run, custom)
    files = {}
    for key in store.list(prefix):
        name = key.removeprefix(prefix)
        if not is_file_name(name):
            what = f"{name!r} cannot be a file of a Benchmark"
            remedy = "Do not score this run: its store was changed by someone else. Delete it"
            raise fail(reasons.CORRUPT_STORE, store.uri(key), what, remedy)
        raw = store.get(key)
        if raw is not None:
            files[name] = raw.decode(errors="replace")
    where = store.uri(prefix)
    remedy = "Run it again with evalrun run and its manifests: stored answers are reused"
    if not files:
        what = f"the files of Benchmark {custom.name} are not in the store"
        raise Refused([Fault(where, what, remedy)])
    if digest(files) != custom.digest:
        what = f"the files of Benchmark {custom.name} are not those that the run was given"
        raise fail(reasons.CORRUPT_STORE, where, what, remedy)
    return files


def code_faults(
    store: Store, run: RunIdentity, plan: RunPlan, files: Mapping[str, Mapping[str, str]]
) -> list[Fault]:
    """A fault for each benchmark that would run code of the store on this machine."""
    executing = [
        Fault(
            "--allow-code",
            f"benchmark {task}: {what}, on this machine",
            "Trust whoever could write to the store, then add --allow-code",
        )
        for task in plan.tasks
        if (what := executes(task)) is not None
    ]
    return executing + [
        Fault(
            "--allow-code",
            f"Benchmark {custom.name} brings Python code, which scoring runs on this machine",
            f"Read the files at {store.uri(_folder_of(run, custom))} first, then add --allow-code",
        )
        for custom in plan.custom_benchmarks
        if _spec_of(custom, files[custom.name]).has_code
    ]


def is_file_name(name: str) -> bool:
    """Whether a Benchmark may have a file of this name."""
    try:
        _FILE_NAME.validate_python(name)
    except ValidationError:
        return False
    return True


def _spec_of(custom: CustomBenchmark, files: Mapping[str, str]) -> BenchmarkSpec:
    """The Benchmark as it was given to the run; raises `Refused` where it cannot have been."""
    data = BenchmarkData(volume=custom.data) if custom.data else None
    document = {"tasks": custom.tasks, "files": dict(files), "data": data}
    return read(BenchmarkSpec, document, f"Benchmark/{custom.name} ")


def _folder_of(run: RunIdentity, custom: CustomBenchmark) -> str:
    return f"{layout.run(run)}/benchmarks/{custom.name}/"
