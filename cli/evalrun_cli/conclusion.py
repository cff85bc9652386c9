"""What came of a run: decided from how its process ended and what it wrote."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalrun_api import reasons
from evalrun_api.manifest import Manifest
from evalrun_api.plan import RunIdentity, RunPlan
from evalrun_api.reasons import Reason
from evalrun_cli import invocation
from evalrun_cli.exits import Exit, exit_of, reason_named
from evalrun_cli.supervision import Ended

TAIL_LINES = 15
LINE_WIDTH = 400


@dataclass(frozen=True)
class Conclusion:
    """The end of a run.

    stored, total: answers that are stored, of all; None where it is not known.
    counts_are_final: whether the process counted them when it ended; it could not if it was killed.
    """

    run: RunIdentity
    outcome: str
    reason: Reason
    message: str
    exit_code: int
    seconds: float
    log: Path
    reused: int = 0
    computed: int = 0
    stored: int | None = None
    total: int | None = None
    counts_are_final: bool = True
    manifest: Manifest | None = None


def conclude(plan: RunPlan, ended: Ended) -> Conclusion:
    """Judge a process that has ended. A success still needs its manifest: see `with_manifest`."""
    left, seen = ended.outcome, ended.progress
    final = left is not None and left.outcome != "Running"
    counted = left if left is not None and (final or seen is None) else seen
    reused = counted.reused if counted else 0
    computed = counted.computed if counted else 0
    base = Conclusion(
        run=plan.run,
        outcome="Failed",
        reason=reasons.INTERNAL_ERROR,
        message=left.message if left else "",
        exit_code=Exit.FAILED,
        seconds=ended.seconds,
        log=ended.log,
        reused=reused,
        computed=computed,
        stored=reused + computed if counted else None,
        total=seen.requests_total if seen and seen.requests_total else None,
        counts_are_final=final,
    )
    if ended.succeeded:
        return replace(
            base, outcome="Succeeded", reason=reasons.COMPLETED, message="", exit_code=Exit.DONE
        )
    failed_by_itself = left is not None and left.outcome == "Failed"
    if ended.stopped and not failed_by_itself:
        killed = len(ended.signals) > 1 and ended.exit_code == -signal.SIGKILL
        return replace(
            base,
            outcome="Killed" if killed else "Stopped",
            reason=reasons.STOPPED,
            exit_code=128 + ended.signals[0],
        )
    if left is not None and left.outcome in ("Failed", "Stopped"):
        reason = reason_named(left.reason)
        return replace(base, outcome=left.outcome, reason=reason, exit_code=exit_of(reason))
    if ended.exit_code < 0:
        reason, what = _by_signal(-ended.exit_code)
    else:
        reason = reasons.INTERNAL_ERROR
        what = f"the runner ended with exit code {ended.exit_code} and left no reason"
    return replace(base, reason=reason, message=f"{what}. {reason.remedy}")


def _by_signal(number: int) -> tuple[Reason, str]:
    kept = "answers stored before that are kept"
    if number == signal.SIGKILL:
        what = "the runner was killed (SIGKILL), most likely because this machine ran out of memory"
        return reasons.OUT_OF_MEMORY, f"{what}; {kept}"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return reasons.INTERNAL_ERROR, f"the runner was ended by {name}; {kept}"


def with_manifest(conclusion: Conclusion, manifest: Manifest) -> Conclusion:
    """A success with what it wrote."""
    return replace(
        conclusion,
        manifest=manifest,
        reused=manifest.answers.reused,
        computed=manifest.answers.computed,
        stored=manifest.answers.total,
        total=manifest.answers.total,
    )


def document(conclusion: Conclusion, files: dict[str, Any]) -> dict[str, Any]:
    """A conclusion for programs."""
    manifest = conclusion.manifest
    answers: dict[str, Any] = {"reused": conclusion.reused, "computed": conclusion.computed}
    if manifest:
        answers = manifest.answers.document()
    elif conclusion.total is not None:
        answers["total"] = conclusion.total
    seconds: dict[str, Any] = {"wall": round(conclusion.seconds, 1)}
    if manifest:
        seconds.update(manifest.seconds.document())
    return {
        "run": conclusion.run.document(),
        "outcome": conclusion.outcome,
        "reason": conclusion.reason.name,
        "message": conclusion.message,
        "trusted": manifest.trusted if manifest else None,
        "scores": [score.document() for score in manifest.scores] if manifest else [],
        "answers": answers,
        "files": {**files, "log": str(conclusion.log)},
        "seconds": seconds,
    }


def go_on(program: str, arguments: Sequence[str], uid: str | None) -> str:
    """The command that goes on with a run that has no result: the same command.

    uid: of an attempt whose answers no other attempt may use (reuseAnswers: Never), so that the
    command has to name it. None: the answers are found without it.
    """
    program_name = invocation.name_of(program)
    if uid is None:
        return f"{program_name} {shlex.join(arguments)}"
    return f"{program_name} {shlex.join([*_without_resume(arguments), '--resume', uid])}"


def _without_resume(arguments: Sequence[str]) -> list[str]:
    kept = [entry for entry in arguments if entry != "--fresh" and entry[:9] != "--resume="]
    if "--resume" in kept:
        position = kept.index("--resume")
        del kept[position : position + 2]
    return kept


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - lines * LINE_WIDTH, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line[:LINE_WIDTH] for line in text.splitlines()[-lines:])
