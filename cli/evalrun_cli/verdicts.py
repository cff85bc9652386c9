"""Whether what a command waits for has come, and with which exit code the command then ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from evalrun_cli import run_state
from evalrun_cli.exits import Exit
from evalrun_cli.run_state import Doc


class Goal(StrEnum):
    """What `wait` waits for."""

    FINISHED = "finished"
    COMPLETE = "Complete"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


@dataclass(frozen=True)
class Verdict:
    """The end of a wait. text: in a few words, after the run's name."""

    exit_code: Exit
    text: str


def verdict(run: Doc, goal: Goal) -> Verdict | None:
    """The end of a wait for a goal; None while it can still be reached.

    A run that completed has not done what a pipeline wants when a gate did not pass; whoever waits
    for Complete has asked for the condition alone.
    """
    ended = run_state.outcome(run)
    reason = run_state.why(run)[0]
    if goal is Goal.SUSPENDED and ended is None:
        suspended = run_state.holds(run, "Suspended") and run_state.seen(run)
        return Verdict(Exit.DONE, "is suspended") if suspended else None
    if ended is None:
        return None
    if ended == "Failed":
        text = f"failed ({reason})" if reason else "failed"
        return Verdict(Exit.DONE if goal is Goal.FAILED else Exit.FAILED, text)
    passed = run_state.condition(run, "Passed").get("status") != "False"
    text = "is complete" if passed else "is complete, and a gate did not pass"
    good = goal is Goal.COMPLETE or (goal is Goal.FINISHED and passed)
    return Verdict(Exit.DONE if good else Exit.FAILED, text)
