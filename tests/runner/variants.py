"""One set of benchmarks, evaluated in many ways: by plain lmms-eval, and by the runner.

Shared by the tests and by `make exactness`. What every way has to agree on is `Numbers`.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import kind_tasks

from evalrun_api.benchmark import Benchmark
from evalrun_api.checks import Surroundings
from evalrun_api.index import builtin_index
from evalrun_api.plan import RunPlan, StorePlan
from evalrun_api.planning import make_plan
from evalrun_api.policy import LAPTOP
from evalrun_api.profiles import builtin_profiles
from evalrun_api.spec import EvaluationRun
from evalrun_runner import layout, local
from evalrun_runner.stores import open_store

HERE = Path(__file__).parent
COMPARED = ("results", "n-samples", "versions", "n-shot", "higher_is_better")
Numbers = dict[str, Any]
"""By task: what lmms-eval says of it, and its samples."""


@dataclass(frozen=True)
class Group:
    """Tasks with settings of their own.

    settings: of the benchmark (limit, fewShot, repeats). files: instead of those of `kind_tasks`.
    """

    name: str
    tasks: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] | None = None

    @property
    def task_names(self) -> list[str]:
        """As lmms-eval knows them."""
        return self.tasks if self.files is not None else [f"{t}_{self.name}" for t in self.tasks]

    @property
    def task_files(self) -> dict[str, str]:
        """The benchmark's files."""
        return self.files if self.files is not None else kind_tasks.files(self.tasks, self.name)


@dataclass(frozen=True)
class Case:
    """A model and what it is evaluated on.

    model: `spec.model`. args: the backend's, where it is one of the tests' that no index knows.
    plain_args: the same as lmms-eval's model_args. forgets: the backend takes `until` out of the
    arguments that lmms-eval then writes into its samples.
    """

    name: str
    backend: str
    model: dict[str, Any]
    plain_args: str
    groups: list[Group]
    models: Path
    args: dict[str, Any] | None = None
    evaluation: dict[str, Any] = field(default_factory=dict)
    plain_flags: list[str] = field(default_factory=list)
    forgets: bool = False

    @property
    def task_names(self) -> list[str]:
        """All, in order."""
        return [name for group in self.groups for name in group.task_names]


@dataclass
class Bench:
    """A place to run cases in.

    data: folder that `kind_tasks.write_data` filled. drawings: where backends draw.
    """

    folder: Path
    data: Path
    drawings: Path

    def run(self, case: Case, batch: int = 1, chunk: int | None = None) -> local.LocalRun:
        """A run of a case, with a store of its own."""
        customs, benchmarks = {}, []
        for group in case.groups:
            customs[f"kinds-{group.name}"] = Benchmark.model_validate(
                {
                    "apiVersion": "lmms-eval.io/v1alpha1",
                    "kind": "Benchmark",
                    "metadata": {"name": f"kinds-{group.name}"},
                    "spec": {
                        "tasks": group.task_names,
                        "files": group.task_files,
                        "data": {"volume": {"claimName": "data"}},
                    },
                }
            )
            reference = {"benchmarkRef": {"name": f"kinds-{group.name}"}}
            benchmarks.append({**reference, **group.settings})
        written = {
            "apiVersion": "lmms-eval.io/v1alpha1",
            "kind": "EvaluationRun",
            "metadata": {"name": f"exact-{case.name}"},
            "spec": {
                "model": case.model,
                "benchmarks": benchmarks,
                "evaluation": {**case.evaluation},
                "parallelism": {"acceleratorsPerShard": 0},
                "security": {"allowCodeExecution": True},
                # Words drawn by a hash say little; that is not what is looked at here.
                "integrity": {"maxInvalidFraction": 1.0},
            },
        }
        planned = make_plan(
            EvaluationRun.model_validate(written),
            uuid.uuid4().hex,
            StorePlan(uri=(self.folder / f"store-{uuid.uuid4().hex[:8]}").as_uri()),
            Surroundings(builtin_profiles(), builtin_index(), LAPTOP, customs),
        )
        plan = planned.plan
        if case.args is not None:
            model = {"backend": case.backend, "args": case.args, "requires": []}
            plan = plan.model_copy(update={"model": plan.model.model_copy(update=model)})
        # Small data have to make many chunks, and the backends of the tests take any batch.
        size = max((chunk or 16) // batch, 1) * batch
        groups = [
            each.model_copy(update={"batch_size": batch, "chunk_size": size})
            for each in plan.groups
        ]
        plan = plan.model_copy(update={"groups": groups, "batch_size": batch})
        return local.LocalRun(
            plan=plan,
            files=planned.files,
            volumes={"models": case.models, "data": self.data},
            workspace=self.folder / plan.run.uid,
            spool=self.folder / f"spool-{plan.run.uid}",
        )

    def plain(self, case: Case, name: str) -> Numbers:
        """Plain lmms-eval's own command in a process of its own, batch 1; a call for each group."""
        calls = []
        for group in case.groups:
            folder = self.folder / f"plain-{name}-{group.name}"
            include = folder / "include"
            include.mkdir(parents=True)
            for file, text in group.task_files.items():
                (include / file).write_text(text.replace("${DATA}", str(self.data)))
            call = ["--model", case.backend, "--model_args", case.plain_args, "--device", "cpu"]
            call += ["--tasks", ",".join(group.task_names), "--include_path", str(include)]
            call += ["--batch_size", "1", "--process_docs_parallel", "1", "--log_samples"]
            call += ["--output_path", str(folder / "out"), *case.plain_flags]
            for setting, flag in (
                ("limit", "--limit"),
                ("fewShot", "--num_fewshot"),
                ("repeats", "--repeats"),
            ):
                if setting in group.settings:
                    call += [flag, str(group.settings[setting])]
            calls.append(call)
        log = self.folder / f"plain-{name}.log"
        with log.open("wb") as output:
            subprocess.run(
                [sys.executable, str(HERE / "plain_child.py"), json.dumps(calls)],
                check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
                stdout=output,
                stderr=output,
            )
        found: Numbers = {}
        for group in case.groups:
            out = self.folder / f"plain-{name}-{group.name}" / "out"
            written = list(out.rglob("[0-9]*_results.json"))
            if len(written) != 1:
                raise AssertionError(
                    f"lmms-eval failed on {group.name}:\n{log.read_text()[-4000:]}"
                )
            samples = {
                task: next(out.rglob(f"*_samples_{task}.jsonl")).read_bytes()
                for task in group.task_names
            }
            found |= numbers(case, json.loads(written[0].read_text()), samples)
        return found

    def numbers(self, case: Case, run: local.LocalRun) -> Numbers:
        """What a finished run of ours gave."""
        store = open_store(run.plan.store)
        found: Numbers = {}
        for group, planned in zip(case.groups, run.plan.groups, strict=True):
            folder = f"{layout.run(run.plan.run)}/results"
            if len(run.plan.groups) > 1:
                folder += f"/{planned.name}"
            results = json.loads(store.get(f"{folder}/results.json") or b"")
            samples = {
                task: store.get(f"{folder}/samples_{task}.jsonl") or b""
                for task in group.task_names
            }
            found |= numbers(case, results, samples)
        return found


def numbers(case: Case, results: dict[str, Any], samples: dict[str, bytes]) -> Numbers:
    """By task, what a results file and the samples say."""
    found = {}
    for task, lines in samples.items():
        entries = kind_tasks.samples_of(lines)
        if case.forgets:
            entries = [_without_until(entry) for entry in entries]
        if not entries:
            raise AssertionError(f"{task} has no samples")
        found[task] = {
            **{key: results.get(key, {}).get(task) for key in COMPARED},
            "groups": results.get("groups"),
            "samples": entries,
        }
    return found


def _without_until(value: Any) -> Any:
    """A sample as if no generation arguments had held `until`."""
    if isinstance(value, dict):
        return {key: _without_until(entry) for key, entry in value.items() if key != "until"}
    return [_without_until(entry) for entry in value] if isinstance(value, list) else value


def unequal(one: Numbers, other: Numbers) -> list[str]:
    """Tasks on which two ways disagree."""
    return [
        task
        for task in sorted(one.keys() | other.keys())
        if json.dumps(one.get(task), sort_keys=True) != json.dumps(other.get(task), sort_keys=True)
    ]


def execute(run: local.LocalRun, step: str = "all", *options: str) -> None:
    """A step in this process; raises if it fails."""
    from evalrun_runner.main import run as run_command

    taken = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    handlers = {number: signal.getsignal(number) for number in taken}
    try:
        code = run_command([*local.arguments(run, step), *options])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if code:
        raise AssertionError(f"{step} ended with {code}: {run.termination.read_text()}")


def killed(run: local.LocalRun, appends: int, step: str = "all", *options: str) -> None:
    """A step in a forked process, which SIGKILL ends when it has journaled so many chunks."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        try:
            _own_locks()
            with _fatal_journal(appends):
                execute(run, step, *options)
        finally:
            os._exit(99)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise AssertionError(
            f"it was done before it could be killed: {run.termination.read_text()}"
        )


def _own_locks() -> None:
    """Let a forked process take the file locks that lmms-eval keeps for reuse; none is held."""
    from filelock import BaseFileLock

    for each in gc.get_objects():
        if isinstance(each, BaseFileLock):
            each._creator_pid = os.getpid()


@contextmanager
def _fatal_journal(appends: int) -> Iterator[None]:
    from evalrun_runner.journal.writing import JournalWriter

    append, left = JournalWriter.append, [appends]

    def counted(self: JournalWriter, records: Any) -> None:
        append(self, records)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    JournalWriter.append = counted  # type: ignore[method-assign]  # in a process that is to die
    yield


def spread(run: local.LocalRun, shards: int, workers: int = 1) -> local.LocalRun:
    """The same run, its work spread over so many."""
    execution = run.plan.execution._replace(shards=shards, workers=workers)
    return replace(run, plan=run.plan.spread(execution))


def again(run: local.LocalRun) -> local.LocalRun:
    """The same run, deleted and applied anew."""
    uid = uuid.uuid4().hex
    plan: RunPlan = run.plan.model_copy(
        update={"run": run.plan.run.model_copy(update={"uid": uid})}
    )
    return replace(run, plan=plan, workspace=run.workspace.with_name(uid))


def answer_in_parts(run: local.LocalRun) -> None:
    """Answer a spread run: every worker of every shard, the last ones first."""
    for shard in reversed(range(run.plan.shards)):
        for worker in reversed(range(run.plan.workers)):
            execute(run, "answer", "--shard", str(shard), "--worker", str(worker))


def forget_score(run: local.LocalRun) -> None:
    """Remove all that scoring wrote, and this machine's work folder."""
    store = Path(run.plan.store.uri.removeprefix("file://")) / layout.run(run.plan.run)
    (store / "manifest.json").unlink()
    shutil.rmtree(store / "results")
    shutil.rmtree(run.workspace)


def swap_two_answers(run: local.LocalRun) -> str:
    """Damage the merge: exchange two different answers in one segment; the task they belong to."""
    from evalrun_runner.journal.segments import pack, read_segment

    store = open_store(run.plan.store)
    lock = json.loads(store.get(layout.lock_of_run(run.plan.run)) or b"")
    for key in store.list(layout.segments(run.plan.run.namespace, lock["answers"])):
        records = list(read_segment(store.get(key) or b"", key))
        for place, one in enumerate(records):
            if one.request_type != "generate_until":
                continue  # a conversation in another's place is refused, and so never scored
            for other_place, other in enumerate(records[place + 1 :], place + 1):
                if (one.task, one.round, other.round) == (other.task, 0, 0) and (
                    one.response != other.response
                ):
                    records[place] = one.model_copy(update={"response": other.response})
                    records[other_place] = other.model_copy(update={"response": one.response})
                    lines = [
                        each.model_dump_json(by_alias=True, exclude_none=True) for each in records
                    ]
                    store.put(key, pack("".join(f"{line}\n" for line in lines).encode()))
                    return one.task
    raise AssertionError("no segment holds two different answers to one task")


def following(name: str, models: Path, drawings: Path, groups: list[Group], **args: Any) -> Case:
    """A case for a backend of `kind_backends`. args: of the backend, for ours; plain has `pairs`
    off, since its multiple choice fails on bare pairs.
    """
    backend = "following_chat" if name.startswith("chat") else "following"
    ours = {"drawings": str(drawings), "pairs": True, **args}
    plain = {**ours, "pairs": False}
    return Case(
        name,
        backend,
        {"profile": "llava_hf", "source": {"volume": {"claimName": "models", "path": "none"}}},
        ",".join([f"pretrained={models / 'none'}", *(f"{k}={v}" for k, v in plain.items())]),
        groups,
        models,
        args=ours,
        forgets=bool(args.get("forgets")),
    )


def kinds(models: Path, drawings: Path, **args: Any) -> list[Case]:
    """Every request type, few-shot, repeats and a scorer that draws, in both forms of a prompt."""
    simple = [
        Group("base", list(kind_tasks.TASKS)),
        Group("shots", ["mmlu"], {"fewShot": 3}),
        Group("three", ["chartqa"], {"repeats": 3}),
    ]
    chat = [
        Group("chat", ["mme", "mmmu_val", "chartqa", "vending_bench2"]),
        Group("thrice", ["vending_bench2"], {"repeats": 2}),
    ]
    return [
        following("simple", models, drawings, simple, forgets=True, **args),
        following("chat", models, drawings, chat, **args),
    ]
