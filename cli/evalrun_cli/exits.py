"""Exit codes of the command, and what is said when something goes wrong."""

from __future__ import annotations

import signal
from enum import IntEnum
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, Fault, Refused
from evalrun_api.reasons import ExitCode, Reason


class Exit(IntEnum):
    """How `evalrun` ends. The code says who has to act, the reason in the message why."""

    DONE = 0
    FAILED = 1
    """The run failed while it worked, or a check or a gate did not pass."""
    REFUSED = 2
    """The command line, manifest, model or data have to be corrected; nothing else will help."""
    STORE = 3
    """The store or the cluster cannot be reached or refuses access, or the store is damaged."""
    TIMED_OUT = 124
    """What was waited for did not come in time (wait, watch and apply with --timeout)."""
    INTERRUPTED = 128 + signal.SIGINT
    TERMINATED = 128 + signal.SIGTERM


EPILOG = (
    "Exit codes: 0 done; 1 the run failed, or a check or gate did not pass; 2 the command, the "
    "manifest, the model or the data have to be corrected; 3 the store or the cluster cannot be "
    "reached or refuses access, or the store is damaged; 124 what was waited for did not come in "
    "time; 130 and 143 stopped by Ctrl-C and SIGTERM (finished answers are stored; a run of a "
    "cluster goes on). Commands that follow a run of a cluster end with 0 when it completed and "
    "with 1 when it failed, whatever the reason. With EVALRUN_DEBUG=1 errors show their traceback."
)

_BY_CLASS = {
    ExitCode.DONE: Exit.DONE,
    ExitCode.INTERNAL: Exit.FAILED,
    ExitCode.INVALID: Exit.REFUSED,
    ExitCode.DENIED: Exit.STORE,
    ExitCode.UNTRUSTED: Exit.FAILED,
    ExitCode.CORRUPT: Exit.STORE,
    ExitCode.STORE: Exit.STORE,
    ExitCode.RESOURCES: Exit.FAILED,
    ExitCode.STOPPED: Exit.TERMINATED,
}


def exit_of(reason: Reason) -> Exit:
    """The command's exit code for a reason."""
    return _BY_CLASS[reason.exit_code]


def reason_named(name: str) -> Reason:
    """The reason of a termination message; one that this release does not know is internal."""
    return reasons.REASONS.get(name, reasons.INTERNAL_ERROR)


def fault_lines(fault: Fault) -> tuple[Text, Text]:
    """A fault as two lines: where and what; the remedy."""
    what = fault.what if fault.what.endswith("?") else fault.what.rstrip(".") + "."
    return Text.assemble((fault.where, "bold"), f": {what}"), Text(fault.remedy, style="green")


def error_document(error: EvalrunError) -> dict[str, Any]:
    """An error for programs."""
    return {
        "outcome": "Refused" if isinstance(error, Refused) else "Failed",
        "reason": error.reason.name,
        "message": str(error),
        "faults": [
            {"where": fault.where, "what": fault.what, "remedy": fault.remedy}
            for fault in error.faults
        ],
    }


def show_error(console: Console, error: EvalrunError) -> None:
    """An error for people: every fault with its remedy."""
    count = len(error.faults)
    title = "refused" if isinstance(error, Refused) else "failed"
    if count > 1:
        title += f": {count} faults"
    console.print(Text.assemble((title, "bold red"), f" ({error.reason.name})"))
    for fault in error.faults:
        told, remedy = fault_lines(fault)
        console.print(told, soft_wrap=not console.is_terminal)
        if console.is_terminal:
            console.print(Padding(remedy, (0, 0, 0, 2)))
        else:
            console.print("  ", remedy, sep="", soft_wrap=True)


def failure_panel(
    reason: Reason, message: str, tail: str | None, title: str | None = None
) -> Panel:
    """How a run failed; the message ends with the remedy. title: the reason's name by default."""
    body = [Text(message)]
    if tail:
        body += [Text("\nThe log ends so:", style="dim"), Text(tail)]
    told = Text(f"failed: {title or reason.name}")
    return Panel(Group(*body), title=told, title_align="left", border_style="red")
