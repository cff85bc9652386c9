"""Progress on the terminal: bars where there is one, a line now and then where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from evalrun_api.progress import Progress, TaskProgress
from evalrun_cli.output import clock
from evalrun_cli.supervision import Display

LINE_SECONDS = 5.0
"""At most one line in this time where there is no terminal."""
WAITING = "starting the runner"


def summary(progress: Progress) -> str:
    """One line: done of all, rate, time left, answers reused."""
    parts = [f"{progress.requests_done:,}/{progress.requests_total:,} answers"]
    if progress.requests_per_second > 0:
        rate = progress.requests_per_second
        parts.append(f"{rate:.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
    if progress.eta_seconds is not None and progress.requests_done < progress.requests_total:
        parts.append(f"{clock(progress.eta_seconds)} left")
    if progress.reused:
        parts.append(f"{progress.reused:,} reused")
    return ", ".join(parts)


def plain_line(progress: Progress | None, elapsed: float) -> str:
    """What is said of the progress where there is no terminal."""
    activity = progress.activity if progress and progress.activity else WAITING
    text = f"[{clock(elapsed)}] {activity}"
    if progress and progress.requests_total:
        text += f": {summary(progress)}"
    return text


def visible(tasks: Sequence[TaskProgress], room: int) -> list[TaskProgress]:
    """The tasks to draw: all that fit, and of more than that those at work before the others."""
    if len(tasks) <= room:
        return list(tasks)

    def rank(position: int) -> tuple[int, int]:
        task = tasks[position]
        if 0 < task.requests_done < task.requests_total:
            return (0, position)
        waiting = task.requests_done == 0
        return (1, position) if waiting else (2, -position)

    chosen = sorted(sorted(range(len(tasks)), key=rank)[: max(room - 1, 1)])
    return [tasks[position] for position in chosen]


def bars(progress: Progress, width: int, height: int) -> RenderableType:
    """A bar for each task, one for all of them where there are several, and the summary."""
    drawn = visible(progress.tasks, max(height - 5, 2))
    rows = list(drawn)
    if len(progress.tasks) > 1:
        done, total = progress.requests_done, progress.requests_total
        rows.append(TaskProgress(name="total", requests_done=done, requests_total=total))
    table = Table.grid(padding=(0, 1))
    counts = max((len(f"{row.requests_total:,}") for row in rows), default=1) * 2 + 1
    names = min(max((len(row.name) for row in rows), default=1), max(width // 3, 10))
    table.add_column(width=names, no_wrap=True, overflow="ellipsis")
    table.add_column(width=max(min(width - names - counts - 8, 60), 10))
    table.add_column(justify="right", no_wrap=True, width=counts)
    table.add_column(justify="right", no_wrap=True, width=4)
    for row in rows:
        share = row.requests_done / row.requests_total if row.requests_total else 0.0
        table.add_row(
            Text(row.name),
            ProgressBar(total=max(row.requests_total, 1), completed=row.requests_done),
            f"{row.requests_done:,}/{row.requests_total:,}",
            f"{math.floor(share * 100)}%",
        )
    parts: list[RenderableType] = [table]
    if hidden := len(progress.tasks) - len(drawn):
        parts.append(Text(f"and {hidden} more tasks", style="dim"))
    parts.append(Text(summary(progress)))
    return Group(*parts)


class LiveDisplay:
    """Redraws itself in place."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live
        self._spinner = Spinner("dots")

    def show(self, progress: Progress | None, elapsed: float) -> None:
        """See `Display`."""
        activity = progress.activity if progress and progress.activity else WAITING
        self._spinner.update(text=Text(f"{activity}  {clock(elapsed)}"))
        parts: list[RenderableType] = [self._spinner]
        if progress and progress.requests_total:
            parts.append(bars(progress, self._console.width, self._console.height))
        self._live.update(Group(*parts))

    def say(self, text: str) -> None:
        """See `Display`."""
        self._console.print(text, style="yellow", markup=False)


class PlainDisplay:
    """Writes a line when the activity changes or some time has passed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said_at = -math.inf
        self._line = ""

    def show(self, progress: Progress | None, elapsed: float) -> None:
        """See `Display`."""
        line = plain_line(progress, elapsed)
        if elapsed - self._said_at >= LINE_SECONDS and line != self._line:
            self._said_at, self._line = elapsed, line
            self._console.print(line, soft_wrap=True, markup=False)

    def say(self, text: str) -> None:
        """See `Display`."""
        self._console.print(text, soft_wrap=True, markup=False)


@contextmanager
def shown(console: Console) -> Iterator[Display]:
    """The display that suits a console, for as long as something is at work."""
    if not console.is_terminal:
        yield PlainDisplay(console)
        return
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        yield LiveDisplay(console, live)
