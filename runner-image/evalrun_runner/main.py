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
from pathlib import Path

from pydantic import ValidationError

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, Fault, Refused, fail
from evalrun_api.manifest import Manifest
from evalrun_api.plan import RunPlan
from evalrun_api.progress import StepName
from evalrun_api.reading import read
from evalrun_api.reasons import ExitCode
from evalrun_runner import layout, logs
from evalrun_runner.environment import adopt_env_from
from evalrun_runner.places import Places
from evalrun_runner.report import MAX_REVISION, Report
from evalrun_runner.serve import serve
from evalrun_runner.setting import Setting
from evalrun_runner.stopping import Stopped, StopRequest, stop_at_eof
from evalrun_runner.stores import open_store

log = logging.getLogger("evalrun_runner")

STEPS: tuple[StepName, ...] = ("prepare", "answer", "score")


_DISTRIBUTED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""lmms-eval would slice the requests by these; shards are ours."""


def main() -> None:
    """Run the command and exit with its code."""
    logs.set_up_logs()
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
    logs.always.update(run=f"{plan.run.namespace}/{plan.run.name}", uid=plan.run.uid)
    _go_offline_if_possible(plan)
    first: StepName = STEPS[0] if options.step == "all" else options.step
    report = Report(plan, first, options.termination_log)
    stop = StopRequest(options.grace_seconds)
    try:
        if options.stop_at_eof:
            stop_at_eof()
        report.conclude()
        adopt_env_from(os.environ)
        if options.listen:
            serve(report, options.listen, options.address_file)
        _steps(options, plan, report, stop)
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
    except MemoryError:
        stop.shield()
        log.exception("out of memory")
        return _failed(report, EvalrunError(reasons.OUT_OF_MEMORY))
    except Exception as error:
        stop.shield()
        log.exception("the runner failed")
        found = EvalrunError(reasons.INTERNAL_ERROR)
        return _failed(report, found, f"{type(error).__name__}: {error}. {found}")
    stop.shield()
    report.conclude(outcome="Succeeded", reason=reasons.COMPLETED.name, message="")
    return ExitCode.DONE


def _failed(report: Report, error: EvalrunError, message: str | None = None) -> int:
    report.conclude(
        outcome="Failed", reason=error.reason.name, message=(message or str(error))[:2048]
    )
    return error.reason.exit_code


def _steps(options: argparse.Namespace, plan: RunPlan, report: Report, stop: StopRequest) -> None:
    if options.shard is not None and not 0 <= options.shard < plan.shards:
        what = f"there is no shard {options.shard} of {plan.shards}"
        raise fail(reasons.INVALID_SPEC, "--shard", what, f"Give 0 to {plan.shards - 1}")
    for name in _DISTRIBUTED:
        os.environ.pop(name, None)
    places = Places(
        work=options.work,
        spool=options.spool or options.work / "spool",
        benchmarks=options.benchmarks,
        volumes=dict(options.volume),
    )
    store = open_store(plan.store)
    setting = Setting(
        plan=plan,
        places=places,
        store=store,
        report=report,
        stop=stop,
        writer=options.writer or uuid.uuid4().hex,
        shard=options.shard,
    )
    if _is_done(setting):
        log.info("the run is finished already", extra={"run": plan.run.uid})
        return
    for step in STEPS if options.step == "all" else (options.step,):
        logs.always["step"] = step
        _step(step)(setting)
        stop.raise_if_asked()


def _is_done(setting: Setting) -> bool:
    """Whether the manifest is there: then this step's output was written by an earlier attempt."""
    key = layout.manifest(setting.plan.run)
    data = setting.store.get(key)
    if data is None:
        return False
    where = setting.store.uri(key)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise fail(reasons.CORRUPT_STORE, where, "it is not a manifest of this release") from error
    setting.report.conclude(
        scores=manifest.scores[:10],
        answers_digest=manifest.answers_digest,
        reused=manifest.answers.reused,
        computed=manifest.answers.computed,
        invalid=manifest.answers.invalid,
        results_uri=where,
        results_digest=hashlib.sha256(data).hexdigest(),
        trusted=manifest.trusted,
        determinism=manifest.provenance.determinism,
        requests_total=manifest.answers.total,
        lmms_eval=manifest.provenance.versions.get("lmms-eval"),
        model_revision=manifest.provenance.model_revision[:MAX_REVISION],
    )
    return True


def _step(name: str) -> Callable[[Setting], object]:
    """The step's function; each imports only what it needs."""
    if name == "prepare":
        from evalrun_runner.prepare import prepare

        return prepare
    if name == "answer":
        from evalrun_runner.answer import answer

        return answer
    from evalrun_runner.score import score

    return score


def _read_plan(path: Path) -> RunPlan:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        fault = Fault(str(path), f"the plan cannot be read: {error}", "Give --plan a plan.json")
        raise Refused([fault]) from error
    return read(RunPlan, value, f"{path}: ")


def _go_offline_if_possible(plan: RunPlan) -> None:
    """Keep the hub's libraries from asking it, where nothing can come from it.

    To be called before they are imported: they read these variables once.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
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
    parser.add_argument("--stop-at-eof", action="store_true", help="stop when standard input ends")
    return parser
