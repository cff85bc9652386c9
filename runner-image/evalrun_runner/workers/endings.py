"""How a worker's life ended, and whether it gets another: pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

from evalrun_api import reasons
from evalrun_api.journal import ErrorClass
from evalrun_api.reasons import PERMANENT, REASONS, ExitCode, Reason

MAX_IN_A_ROW = 5
"""Lives in a row that end without one finished request. Finding a request that kills takes four:
two with its chunk, two alone."""
MAX_RESTARTS = 20
"""Of one worker. Each costs a load of the model; more of them would burn accelerators."""


@dataclass(frozen=True)
class Ending:
    """How a life ended.

    kind: done, stopped on request, failed in a way that another life can't help, or died.
    reason: what the step ends with if there is no other life. what: the same for a person.
    blame: how the requests in its hand are classed; None where they are not to blame.
    """

    kind: Literal["done", "stopped", "failed", "died"]
    reason: Reason
    what: str
    blame: ErrorClass | None = None


def ending(
    code: int, said: str, message: str, *, memory_killed: bool = False, stalled: bool = False
) -> Ending:
    """What the end of a worker's process means.

    code: its exit code, negative for a signal. said, message: the reason that it gave, if any.
    memory_killed: the kernel has killed something of this container since the last look.
    stalled: it was killed because nothing came of what it had in hand.
    """
    if code == ExitCode.DONE and said == reasons.COMPLETED.name:
        return Ending("done", reasons.COMPLETED, "")
    if code == ExitCode.STOPPED and said == reasons.STOPPED.name:
        return Ending("stopped", reasons.STOPPED, "")
    reason = REASONS.get(said)
    if code in PERMANENT:
        return Ending("failed", reason or reasons.INTERNAL_ERROR, message or f"exit code {code}")
    if stalled or reason is reasons.STALLED:
        what = message or "it finished no request within stallSeconds and was killed"
        return Ending("died", reasons.STALLED, what, "Stalled")
    if memory_killed or code == -signal.SIGKILL:
        what = "it was killed (SIGKILL): memory ran out, or somebody killed it"
        return Ending("died", reasons.OUT_OF_MEMORY, what, "OutOfMemory")
    if code < 0:
        return Ending("died", reasons.WORKER_FAILED, f"it died of {_name(-code)}", "Crashed")
    if reason is None or code in (ExitCode.DONE, ExitCode.STOPPED):  # by foreign code
        what = f"it ended with exit code {code} and gave no reason"
        return Ending("died", reasons.WORKER_FAILED, what, "Crashed")
    if reason is reasons.WORKER_FAILED:  # an accelerator that it could use no more
        return Ending("died", reason, message or reason.meaning, "Crashed")
    return Ending("died", reason, message or reason.meaning)


def may_live_again(in_a_row: int, restarts: int) -> bool:
    """Whether a worker that died is started anew.

    in_a_row: its lives, this one included, that ended without a finished request since the last
    that finished one. restarts: how often it was started anew.
    """
    return in_a_row < MAX_IN_A_ROW and restarts < MAX_RESTARTS


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
