"""Showing a run of a cluster until it ends, and waiting for it without a show."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.text import Text

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, Fault
from evalrun_api.progress import Progress
from evalrun_cli import cluster_tables, invocation, run_state
from evalrun_cli.cluster import Cluster
from evalrun_cli.display import LiveDisplay, summary
from evalrun_cli.durations import moment
from evalrun_cli.exits import Exit
from evalrun_cli.following import Changed, Ended, Gone, Lost, followed, get_run
from evalrun_cli.output import WideFormat, answer, aside, clock, is_document, print_document
from evalrun_cli.run_state import Doc, block
from evalrun_cli.supervision import Display
from evalrun_cli.verdicts import Goal, Verdict, verdict


class ChangeLines:
    """Writes a line when something has changed: a pipeline's log keeps each of them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._line = ""

    def show(self, progress: Progress | None, elapsed: float) -> None:
        """See `supervision.Display`."""
        if progress is None:
            return
        line = progress.activity
        if progress.requests_total:
            line += f": {summary(progress)}"
        if line != self._line:
            self._line = line
            self.say(f"[{clock(elapsed)}] {line}")

    def say(self, text: str) -> None:
        """See `supervision.Display`."""
        self._console.print(text, soft_wrap=True, markup=False)


@contextmanager
def shown(console: Console) -> Iterator[Display]:
    """Bars on a terminal, lines elsewhere."""
    if not console.is_terminal:
        yield ChangeLines(console)
        return
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        yield LiveDisplay(console, live)


class Silent:
    """Shows nothing but what has to be said."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, progress: Progress | None, elapsed: float) -> None:
        """See `supervision.Display`."""

    def say(self, text: str) -> None:
        """See `supervision.Display`."""
        self._console.print(text, soft_wrap=True, markup=False)


def watch(cluster: Cluster, name: str, timeout: float | None, form: WideFormat) -> int:
    """Show a run until it has ended, then what came of it. The command's exit code."""
    run: Doc = get_run(cluster, name)
    console = aside()
    console.print(cluster_tables.heading(run), soft_wrap=True)
    try:
        with shown(console) as display:
            run, found = until(cluster, run, Goal.FINISHED, timeout, display)
    except KeyboardInterrupt:
        return left_alone(console, name, cluster.options_for(cluster.namespace))
    if found is None:
        console.print(timed_out(run, Goal.FINISHED, timeout), markup=False, soft_wrap=True)
    if is_document(form):
        print_document(cluster_tables.document(run), form)
    elif found is not None:
        logs = invocation.here("logs", name, *cluster.options_for(cluster.namespace))
        wide = form is WideFormat.WIDE
        cluster_tables.print_conclusion(answer(), run, logs=logs, wide=wide)
    return found.exit_code if found else Exit.TIMED_OUT


def wait(cluster: Cluster, name: str, goal: Goal, timeout: float | None, form: WideFormat) -> int:
    """Wait for a run, with one line at the end. The command's exit code."""
    run: Doc = get_run(cluster, name)
    console = aside()
    try:
        run, found = until(cluster, run, goal, timeout, Silent(console))
    except KeyboardInterrupt:
        return left_alone(console, name, cluster.options_for(cluster.namespace))
    if is_document(form):
        print_document(cluster_tables.document(run), form)
    if found is None:
        console.print(timed_out(run, goal, timeout), markup=False, soft_wrap=True)
        return Exit.TIMED_OUT
    if not is_document(form):
        answer().print(Text(f"{name} {found.text}"), soft_wrap=True)
    return found.exit_code


def until(
    cluster: Cluster, run: Doc, goal: Goal, timeout: float | None, display: Display
) -> tuple[Doc, Verdict | None]:
    """Follow a run to a verdict, or for `timeout` seconds (then None); with the run as it is then.

    Raises `EvalrunError` when the run is deleted or the cluster can no longer be asked.
    """
    if found := verdict(run, goal):
        return run, found
    begun = time.monotonic()
    lost = False
    with followed(cluster, run) as news:
        for new in news:
            if isinstance(new, Changed):
                run = new.run
                if lost:
                    display.say("the API server answers again")
                lost = False
            elif isinstance(new, Gone):
                raise deleted(run)
            elif isinstance(new, Ended):
                raise new.error
            elif isinstance(new, Lost) and not lost:
                display.say(f"{new.error.faults[0].what}; trying again")
                lost = True
            if isinstance(new, Changed) and (found := verdict(run, goal)):
                return run, found
            display.show(run_state.progress(run), elapsed(run, datetime.now(UTC)))
            if timeout is not None and time.monotonic() - begun >= timeout:
                return run, None
    raise AssertionError("news of a run never end")


def elapsed(run: Doc, now: datetime) -> float:
    """Seconds since the run began to work, or since it was created."""
    since = moment(block(run, "status").get("startTime")) or run_state.created(run)
    return max((now - since).total_seconds(), 0.0) if since else 0.0


def deleted(run: Doc) -> EvalrunError:
    """The error for a run that somebody deleted while it was followed."""
    name = run_state.name_of(run)
    what = "the run was deleted while it was followed"
    return EvalrunError(reasons.RUN_DELETED, Fault(name, what, reasons.RUN_DELETED.remedy))


def left_alone(console: Console, name: str, options: Sequence[str]) -> int:
    """Say that following ended and the run has not."""
    again = invocation.here("watch", name, *options)
    stop = invocation.here("cancel", name, *options)
    console.print(f"{name} goes on in the cluster", soft_wrap=True, markup=False)
    console.print(Text.assemble("look again with: ", (again, "bold")), soft_wrap=True)
    console.print(Text.assemble("stop it with:    ", (stop, "bold")), soft_wrap=True)
    return Exit.INTERRUPTED


def timed_out(run: Doc, goal: Goal, timeout: float | None) -> str:
    """What is said when the time is over."""
    wanted = "has not ended" if goal is Goal.FINISHED else f"is not {goal.value}"
    name = run_state.name_of(run)
    return f"{name} {wanted} after {clock(timeout or 0)} and goes on: {run_state.activity(run)}"
