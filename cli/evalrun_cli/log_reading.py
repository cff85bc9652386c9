"""Reading the logs of a run's pods: those that are there, or all to the run's end."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from evalrun_api.names import CONTAINER, RUN_LABEL, RUN_UID_LABEL
from evalrun_cli import invocation, pod_logs, run_state
from evalrun_cli.cluster import PODS, RUNS, Cluster
from evalrun_cli.exits import Exit
from evalrun_cli.following import get_run
from evalrun_cli.log_streams import MANY, GivenUp, Line, Streams
from evalrun_cli.output import answer, aside
from evalrun_cli.plain_text import clean
from evalrun_cli.pod_logs import Attempt
from evalrun_cli.refusals import ApiError
from evalrun_cli.run_state import Doc
from evalrun_cli.verdicts import Goal, verdict

LOOK_SECONDS = 2.0
"""Between two looks for new pods."""
SILENT_SECONDS = 120.0
"""How long the API server may not answer before it is given up."""
NO_ROOM = (
    f"the logs of {MANY} pods are followed at the same time, those of the others when one of these "
    "ends; --shard chooses one"
)


@dataclass(frozen=True)
class LogChoice:
    """What the command line asks for."""

    step: str | None
    shard: int | None
    every: bool
    tail: int | None
    raw: bool


class Printer:
    """Writes lines for people, or as they are."""

    def __init__(self, *, raw: bool) -> None:
        self._console: Console = answer()
        self._raw = raw

    def __call__(self, line: Line) -> None:
        """Write a line. Only what goes to a terminal is made harmless for one."""
        if self._raw:
            text = clean(line.text) if self._console.is_terminal else line.text
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        else:
            self._console.print(pod_logs.rendered(line.text, line.label), soft_wrap=True)


def _pods(cluster: Cluster, run: Doc) -> list[dict[str, Any]]:
    """The pods of exactly this run: a name may have been used before."""
    mine = f"{RUN_LABEL}={run_state.name_of(run)}"
    found = cluster.list(PODS, cluster.namespace, labelSelector=mine)[0]
    uid = run_state.uid_of(run)
    return [
        pod
        for pod in found
        if run_state.block(pod, "metadata", "labels").get(RUN_UID_LABEL, uid) == uid
    ]


def show(cluster: Cluster, name: str, choice: LogChoice) -> int:
    """Write the logs that are there, pod by pod. The exit code: 1 if none could be read."""
    run = get_run(cluster, name)
    pods = _pods(cluster, run)
    chosen = pod_logs.wanted(pods, choice.step, choice.shard, every=choice.every)
    if not chosen:
        finished = run_state.outcome(run) is not None
        raise pod_logs.nothing_to_read(name, pods, choice.step, choice.shard, finished=finished)
    write, notes = Printer(raw=choice.raw), aside()
    several, read = len(chosen) > 1, 0
    query = {"container": CONTAINER} | ({"tailLines": str(choice.tail)} if choice.tail else {})
    for entry in chosen:
        if not entry.begun:
            why = f": {entry.waiting}" if entry.waiting else ""
            notes.print(f"{entry.pod} has not begun{why}", markup=False, soft_wrap=True)
            continue
        try:
            for line in cluster.log(cluster.namespace, entry.pod, **query):
                text = line.decode(errors="replace").rstrip("\r")
                write(Line(entry.label if several else "", text))
            read += 1
        except ApiError as error:
            if error.code in (401, 403):
                raise
            why = error.faults[0].what
            notes.print(f"{entry.pod}: no log: {why}", style="red", markup=False, soft_wrap=True)
    return Exit.DONE if read else Exit.FAILED


def follow(cluster: Cluster, name: str, choice: LogChoice) -> int:
    """Write the logs as they grow, until the run ends. The exit code is the run's."""
    run = get_run(cluster, name)
    console = aside()
    following = Following(cluster, run, choice, Streams(cluster, choice.tail), console)
    try:
        run = following.to_the_end(Printer(raw=choice.raw))
    except KeyboardInterrupt:
        console.print(f"{name} goes on in the cluster", markup=False)
        return Exit.INTERRUPTED
    ended = verdict(run, Goal.FINISHED)
    if ended is None:
        return Exit.DONE
    results = invocation.here("results", name, "--cluster", *cluster.options_for(cluster.namespace))
    following.note(f"{name} {ended.text}; its results: {results}")
    return ended.exit_code


@dataclass
class Following:
    """A run whose logs are followed.

    left: pods whose logs wait for room. seen: whether its pods were looked at after it had ended.
    silent_since: since when the API server does not answer.
    """

    cluster: Cluster
    run: dict[str, Any]
    choice: LogChoice
    streams: Streams
    console: Console
    left: list[Attempt] = field(default_factory=list)
    seen: bool = False
    silent_since: float | None = None
    said: str = ""

    def note(self, text: str) -> None:
        """Say something that no pod wrote; not twice in a row."""
        if text != self.said:
            self.console.print(text, style="yellow", markup=False, soft_wrap=True)
        self.said = text

    def to_the_end(self, write: Callable[[Line], None]) -> dict[str, Any]:
        """Until the run has ended and everything is written; the run as it is then."""
        due = 0.0
        while True:
            now = time.monotonic()
            if now >= due and not self.seen:
                due = now + LOOK_SECONDS
                self.look(now)
            self.left = self.streams.start(self.left)
            try:
                new = self.streams.lines.get(timeout=0.2)
            except queue.Empty:
                if self.streams.failed:
                    raise self.streams.failed[0] from None
                written = not (self.left or self.streams.open) and self.streams.lines.empty()
                if self.seen and written:
                    return self.run
                continue
            if isinstance(new, GivenUp):
                self.note(new.text)
            else:
                write(new)

    def look(self, now: float) -> None:
        """Find new pods, and how the run does. A server that does not answer is asked again."""
        ended = run_state.outcome(self.run) is not None
        try:
            pods = _pods(self.cluster, self.run)
            if not ended:
                self.run = _again(self.cluster, self.run)
        except ApiError as error:
            since = self.silent_since = now if self.silent_since is None else self.silent_since
            if not error.passes or now - since > SILENT_SECONDS:
                raise
            self.note(f"{error.faults[0].what}; trying again")
            return
        self.silent_since, self.seen = None, ended
        choice = self.choice
        chosen = pod_logs.wanted(pods, choice.step, choice.shard, every=choice.every)
        self.left = self.streams.start(chosen)
        if self.left:
            self.note(NO_ROOM)
        elif not self.streams.open and run_state.outcome(self.run) is None:
            self.note(run_state.activity(self.run))


def _again(cluster: Cluster, run: dict[str, Any]) -> dict[str, Any]:
    """The run as it is now; raises when it is another one, or gone."""
    from evalrun_cli.watching import deleted

    try:
        now = cluster.get(RUNS, cluster.namespace, run_state.name_of(run))
    except ApiError as error:
        if error.code == 404:
            raise deleted(run) from error
        raise
    if run_state.uid_of(now) != run_state.uid_of(run):
        raise deleted(run)
    return now
