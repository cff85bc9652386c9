"""The runner's command: one step, or all three, of one plan.

    evalrun-runner prepare|answer|score|all --plan plan.json

Exit codes are those of `evalrun_api.reasons.ExitCode`; 0 means that the step's output is durably
written, and nothing else does.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from evalrun_api import reasons
from evalrun_api.checks import plan_faults
from evalrun_api.errors import EvalrunError, Fault, Refused, fail
from evalrun_api.manifest import Manifest
from evalrun_api.plan import RunPlan
from evalrun_api.progress import StepName
from evalrun_api.reading import read
from evalrun_api.reasons import ExitCode
from evalrun_runner import given_secrets, layout, logs
from evalrun_runner.data import ladder
from evalrun_runner.environment import adopt_env_from
from evalrun_runner.judges.judging import Judges, judges_led
from evalrun_runner.places import CacheKind, Places
from evalrun_runner.report import MAX_REVISION, Report
from evalrun_runner.serve import serve
from evalrun_runner.setting import Setting
from evalrun_runner.stopping import Stopped, StopRequest, stop_at_eof
from evalrun_runner.stores import MAX_DOCUMENT_BYTES, CountedStore, open_store
from evalrun_runner.workers.in_hand import Hand
from evalrun_runner.workers.mailbox import Mailbox
from evalrun_runner.workers.supervised import die_with_supervisor, tell_regularly

log = logging.getLogger("evalrun_runner")

STEPS: tuple[StepName, ...] = ("prepare", "answer", "score")


_DISTRIBUTED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""lmms-eval would slice the requests by these; shards are ours."""


def main() -> None:
    """Run the command and exit with its code."""
    logs.set_up_logs()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    code = run(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # libraries leave threads and atexit hooks behind that can hang or change it


def run(arguments: Sequence[str]) -> int:
    """Run the command; its exit code. Takes SIGTERM, SIGINT and SIGALRM of this process."""
    options = _parser().parse_args(arguments)
    try:
        plan = _read_plan(options.plan)
    except EvalrunError as error:
        log.error("%s", error, extra={"reason": error.reason.name})
        return error.reason.exit_code
    logs.always.clear()
    logs.always.update(run=f"{plan.run.namespace}/{plan.run.name}", uid=plan.run.uid)
    _go_offline_if_possible(plan)
    first: StepName = STEPS[0] if options.step == "all" else options.step
    mailbox = Mailbox(options.mailbox) if options.mailbox else None
    report = Report(plan, first, options.termination_log, mailbox)
    options.writer = options.writer or uuid.uuid4().hex
    # A worker's name in the journal is its pod's, and which worker it is.
    logs.always["attempt"] = options.writer.removesuffix(f"-w{options.worker}")
    if options.shard is not None:
        logs.always["shard"] = str(options.shard)
    stop = StopRequest(options.grace_seconds)
    try:
        if options.stop_at_eof:
            stop_at_eof()
        if mailbox is not None:
            die_with_supervisor()
            tell_regularly(report)
            logs.always["worker"] = str(options.worker)
        report.conclude()
        adopt_env_from(os.environ)
        given_secrets.tidy(os.environ)
        if options.listen:
            serve(report, options.listen, options.address_file)
        _steps(options, plan, report, stop, mailbox)
    except Stopped:
        stop.shield()
        report.conclude(
            outcome="Stopped", reason=reasons.STOPPED.name, message=reasons.STOPPED.meaning
        )
        log.info("stopped on request; finished answers are stored")
        return ExitCode.STOPPED
    except EvalrunError as error:
        stop.shield()
        log.error("%s", error, extra={"reason": error.reason.name}, exc_info=True)
        return _failed(report, error)
    except SystemExit as error:  # exit code 0 would say that the step's output is written
        stop.shield()
        log.exception("foreign code ended the process")
        found = EvalrunError(reasons.INTERNAL_ERROR)
        return _failed(report, found, f"foreign code called exit({error.code}). {found}")
    except MemoryError:
        stop.shield()
        log.exception("out of memory")
        return _failed(report, EvalrunError(reasons.OUT_OF_MEMORY))
    except BaseException as error:  # panics of Rust and cancelled tasks are no `Exception`
        stop.shield()
        log.exception("the runner failed")
        found = EvalrunError(reasons.INTERNAL_ERROR)
        return _failed(report, found, f"{type(error).__name__}: {error}. {found}")
    stop.shield()
    report.conclude(outcome="Succeeded", reason=reasons.COMPLETED.name, message="")
    return ExitCode.DONE


def _failed(report: Report, error: EvalrunError, message: str | None = None) -> int:
    # Secrets go before it is cut: half of one is no longer known by its form.
    said = given_secrets.for_people(message or str(error))[:2048]
    report.conclude(outcome="Failed", reason=error.reason.name, message=said)
    return error.reason.exit_code


def _steps(
    options: argparse.Namespace,
    plan: RunPlan,
    report: Report,
    stop: StopRequest,
    mailbox: Mailbox | None,
) -> None:
    for name, given, count in (
        ("shard", options.shard, plan.shards),
        ("worker", options.worker, plan.workers),
    ):
        if given is not None and not 0 <= given < count:
            what = f"there is no {name} {given} of {count}"
            raise fail(reasons.INVALID_SPEC, f"--{name}", what, f"Give 0 to {count - 1}")
    for name in _DISTRIBUTED:
        os.environ.pop(name, None)
    with judges_led(plan, options.step) as judges:
        _work(options, plan, report, stop, mailbox, judges)


def _work(
    options: argparse.Namespace,
    plan: RunPlan,
    report: Report,
    stop: StopRequest,
    mailbox: Mailbox | None,
    judges: Judges,
) -> None:
    places = Places(
        work=options.work,
        spool=options.spool or options.work / "spool",
        benchmarks=options.benchmarks,
        volumes=dict(options.volume),
        cache=options.cache,
    )
    store = CountedStore(open_store(plan.store), report.store_failed)
    setting = Setting(
        plan=plan,
        places=places,
        store=store,
        report=report,
        stop=stop,
        writer=options.writer,
        shard=options.shard,
        worker=options.worker,
        weights=options.weights,
        hand=Hand(mailbox, plan.stall_seconds),
        judges=judges,
    )
    if mailbox is None and _is_done(setting):
        log.info("the run is finished already", extra={"run": plan.run.uid})
        return
    for step in STEPS if options.step == "all" else (options.step,):
        logs.always["step"] = step
        if step == "score":
            ladder.obtain(setting)
        _step(step, options, plan.workers)(setting)
        stop.raise_if_asked()


def _is_done(setting: Setting) -> bool:
    """Whether the manifest is there: then this step's output was written by an earlier attempt."""
    key = layout.manifest(setting.plan.run)
    data = setting.store.get(key, MAX_DOCUMENT_BYTES)
    if data is None:
        return False
    where = setting.store.uri(key)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise fail(reasons.CORRUPT_STORE, where, "it is not a manifest of this release") from error
    if manifest.run != setting.plan.run:
        other = f"{manifest.run.namespace}/{manifest.run.name} ({manifest.run.uid})"
        raise fail(reasons.CORRUPT_STORE, where, f"it is the manifest of another run, {other}")
    setting.report.conclude(
        scores=manifest.scores[:10],
        answers_digest=manifest.answers_digest,
        reused=manifest.answers.reused,
        computed=manifest.answers.computed,
        invalid=manifest.answers.invalid,
        errors=manifest.answers.errors,
        results_uri=where,
        results_digest=hashlib.sha256(data).hexdigest(),
        trusted=manifest.trusted,
        determinism=manifest.provenance.determinism,
        requests_total=manifest.answers.total,
        lmms_eval=manifest.provenance.versions.get("lmms-eval"),
        model_revision=manifest.provenance.model_revision[:MAX_REVISION],
        judge=manifest.judge,
    )
    return True


def _step(name: str, options: argparse.Namespace, workers: int) -> Callable[[Setting], object]:
    """The step's function; each imports only what it needs."""
    if name == "prepare":
        from evalrun_runner.prepare import prepare

        return prepare
    if name == "answer":
        from evalrun_runner.answer import answer

        # A process that is to do all by itself has nothing that it could start anew.
        alone = options.worker is not None or (options.step == "all" and workers == 1)
        return partial(answer, supervised=not alone)
    from evalrun_runner.score import score

    return score


def _read_plan(path: Path) -> RunPlan:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        fault = Fault(str(path), f"the plan cannot be read: {error}", "Give --plan a plan.json")
        raise Refused([fault]) from error
    plan = read(RunPlan, value, f"{path}: ")
    if faults := plan_faults(plan):
        raise Refused(faults)
    return plan


def _go_offline_if_possible(plan: RunPlan) -> None:
    """Keep the hub's libraries from asking it, where nothing can come from it.

    To be called before they are imported: they read these variables once.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # `evaluate` tells a bucket of each metric loaded
    from_hub = plan.model.source.hugging_face is not None
    own_data = all(custom.data is not None for custom in plan.custom_benchmarks)
    if plan.offline or (not from_hub and plan.is_only_custom and own_data):
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_DATASETS_OFFLINE"] = "1"


def _volume(text: str) -> tuple[str, Path]:
    claim, separator, folder = text.partition("=")
    if not (claim and separator and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not CLAIM=FOLDER")
    return claim, Path(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evalrun-runner",
        description="Run one step of an evaluation, or all three, from its plan.",
        epilog="Exit codes: "
        + ", ".join(f"{code.value} {code.name.lower()}" for code in ExitCode)
        + ".",
    )
    parser.add_argument("step", choices=[*STEPS, "all"], help="what to do")
    parser.add_argument("--plan", type=Path, required=True, help="the run's plan.json")
    parser.add_argument(
        "--benchmarks",
        type=Path,
        default=Path("/benchmarks"),
        help="folder with a folder of files for each custom benchmark",
    )
    parser.add_argument(
        "--volume",
        type=_volume,
        action="append",
        default=[],
        metavar="CLAIM=FOLDER",
        help="folder of a claim that is not mounted at /volumes/CLAIM",
    )
    parser.add_argument(
        "--cache",
        choices=get_args(CacheKind),
        default="own",
        help="whose the hub's cache (HF_HOME) is: this machine's, for all steps (own), a volume "
        "that all pods mount (shared), the node's, or the pod's",
    )
    parser.add_argument("--work", type=Path, default=Path("/work"), help="scratch folder")
    parser.add_argument("--spool", type=Path, help="where answers wait for the store")
    parser.add_argument("--shard", type=int, help="index of this process among the plan's shards")
    parser.add_argument("--writer", help="name of this process in the journal (the pod's UID)")
    parser.add_argument("--listen", help="HOST:PORT for /progress, /metrics and /healthz")
    parser.add_argument("--address-file", type=Path, help="where to write the bound HOST:PORT")
    parser.add_argument("--termination-log", type=Path, help="where to write the outcome")
    parser.add_argument(
        "--grace-seconds",
        type=int,
        default=20,
        help="longest time that the chunk in hand may take after SIGTERM",
    )
    # What a supervisor tells a worker; not for people.
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--mailbox", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    parser.add_argument("--stop-at-eof", action="store_true", help="stop when standard input ends")
    return parser
