"""Running a prepared run to its end and telling what came of it: what `run` and `score` share."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, Fault, Refused
from evalrun_api.plan import RunPlan
from evalrun_api.reasons import ExitCode
from evalrun_cli import conclusion, exits, records, resumption, supervision, tables
from evalrun_cli.destination import StoreChoice
from evalrun_cli.display import shown
from evalrun_cli.manifests import read_files
from evalrun_cli.output import answer, aside, is_document, print_document
from evalrun_cli.preparation import Request, prepare
from evalrun_runner.local import LocalRun, open_store


@dataclass(frozen=True)
class Work:
    """A plan and what its step needs on this machine."""

    plan: RunPlan
    files: Mapping[str, Mapping[str, str]]
    volumes: Mapping[str, Path]


def prepare_run(
    names: Sequence[str],
    name: str | None,
    volumes: Sequence[str],
    choice: StoreChoice,
    fresh: bool,
    limit: int | None,
    resume: str | None = None,
) -> Work:
    """The work that a command line asks for; raises `EvalrunError`.

    resume: uid of the unfinished attempt to go on with, or how it begins.
    """
    directory = Path.cwd()
    if resume is not None and fresh:
        what = "it goes on with stored answers, and --fresh computes every answer anew"
        raise Refused([Fault("--resume", what, "Leave one of the two out")])
    request = Request(read_files(names, directory), name, volumes, choice, fresh, limit)
    prepared = prepare(request, str(uuid.uuid4()), directory, dry=False)
    plan = prepared.planned.plan
    if resume is not None:
        plan = resumption.resumed(open_store(plan.store), plan, resume)
    return Work(plan, prepared.planned.files, prepared.folders)


def execute(work: Work, step: str, form: str) -> int:
    """Run a step to its end, tell what came of it, and return the command's exit code."""
    plan = work.plan
    store = open_store(plan.store)
    store.check()
    ended = _supervised(work, step)
    concluded = conclusion.conclude(plan, ended)
    files = {}
    if ended.succeeded:
        manifest = records.manifest_of(store, plan.run)
        concluded = conclusion.with_manifest(concluded, manifest)
        files = records.addresses(store, manifest)
    if is_document(form):
        print_document(conclusion.document(concluded, files), form)
    if concluded.manifest is None:
        by_uid = step == "all" and resumption.needs_uid(store, plan)
        again = conclusion.go_on(sys.argv[0], sys.argv[1:], plan.run.uid if by_uid else None)
        _tell_failure(aside(), concluded, plan.store.uri, again)
    elif not is_document(form):
        tables.print_result(answer(), concluded.manifest, files, ended.seconds)
    return concluded.exit_code


def _supervised(work: Work, step: str) -> supervision.Ended:
    cache = supervision.cache_folder(os.environ, Path.home())
    folder = supervision.workspace(cache, work.plan.run)
    local = LocalRun(
        plan=work.plan,
        files=work.files,
        volumes=work.volumes,
        workspace=folder,
        spool=cache / "spool",
    )
    console = aside()
    console.print(_heading(work.plan), soft_wrap=True)
    try:
        with shown(console) as display:
            return supervision.supervise(local, step, display)
    except OSError as error:
        what = f"the run's work folder cannot be used: {error.strerror or error}"
        remedy = "Make room and rights there, or set XDG_CACHE_HOME to another folder"
        raise EvalrunError(reasons.INTERNAL_ERROR, Fault(str(folder), what, remedy)) from error


def _heading(plan: RunPlan) -> Text:
    count = len(plan.tasks)
    what = plan.tasks[0] if count == 1 else f"{count} benchmarks"
    by = f", {plan.workers} workers" if plan.workers > 1 else ""
    return Text.assemble((plan.run.name, "bold"), f": {plan.model.backend} on {what}{by}")


def _tell_failure(
    console: Console, concluded: conclusion.Conclusion, store: str, again: str
) -> None:
    """Why there is no result, how many answers are stored, and how to go on."""
    if concluded.reason is reasons.STOPPED:
        done = "killed" if concluded.outcome == "Killed" else "stopped"
        console.print(f"{done}; {stored_line(concluded, store)}", soft_wrap=True)
    else:
        internal = concluded.reason is reasons.INTERNAL_ERROR
        tail = conclusion.tail(concluded.log) if internal else None
        console.print(exits.failure_panel(concluded.reason, concluded.message, tail))
        console.print(f"log: {concluded.log}", soft_wrap=True, markup=False)
        if concluded.stored:
            console.print(stored_line(concluded, store), soft_wrap=True)
    when = "go on with: " if concluded.reason is reasons.STOPPED else "then go on with: "
    console.print(Text.assemble(when, (again, "bold")), soft_wrap=True)


def stored_line(concluded: conclusion.Conclusion, store: str) -> str:
    """How many answers are stored, of how many."""
    if not concluded.stored:
        return "no answer was computed yet"
    of_all = f" of {concluded.total:,}" if concluded.total else ""
    if concluded.reason.exit_code in (ExitCode.STORE, ExitCode.DENIED, ExitCode.RESOURCES):
        return (
            f"{concluded.stored:,}{of_all} answers are finished; "
            f"what is not in {store} yet waits on this machine and is stored by the next run"
        )
    if concluded.counts_are_final:
        return f"{concluded.stored:,}{of_all} answers are stored in {store}"
    return (
        f"about {concluded.stored:,}{of_all} answers are stored in {store}; "
        "what the last few seconds computed may be lost"
    )
