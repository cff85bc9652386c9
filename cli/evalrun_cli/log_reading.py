"""Reading the logs of a run's pods: those that are there, or all to the run's end."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from evalrun_api.errors import Fault, Refused
from evalrun_api.names import CONTAINER, RUN_LABEL, RUN_UID_LABEL
from evalrun_cli import invocation, pod_logs, run_state
from evalrun_cli.cluster import PODS, RUNS, Cluster
from evalrun_cli.exits import Exit
from evalrun_cli.following import get_run
from evalrun_cli.output import answer, aside
from evalrun_cli.plain_text import clean
from evalrun_cli.pod_logs import Attempt
from evalrun_cli.refusals import ApiError
from evalrun_cli.run_state import Doc
from evalrun_cli.verdicts import Goal, verdict

LOOK_SECONDS = 2.0
"""Between two looks for new pods."""
MANY = 32
"""Logs that are followed at the same time; each takes a connection of the API server."""
PATIENCE = 10
"""Failures one after another before it is given up."""


@dataclass(frozen=True)
class LogChoice:
    """What the command line asks for."""

    step: str | None
    shard: int | None
    every: bool
    tail: int | None
    raw: bool


@dataclass(frozen=True)
class Line:
    """A line of a pod's log."""

    label: str
    text: str


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


@dataclass
class Streams:
    """Logs that are being followed, each in a thread. open: how many are not at their end."""

    cluster: Cluster
    tail: int | None
    lines: queue.SimpleQueue[Line] = field(default_factory=queue.SimpleQueue)
    begun: dict[str, threading.Thread] = field(default_factory=dict)
    failed: list[BaseException] = field(default_factory=list)

    @property
    def open(self) -> int:
        """How many are not at their end."""
        return sum(thread.is_alive() for thread in self.begun.values())

    def start(self, entry: Attempt) -> None:
        """Follow a pod's log to its end, once."""
        if entry.pod in self.begun or not entry.begun:
            return
        thread = threading.Thread(target=self._read, args=(entry,), daemon=True)
        self.begun[entry.pod] = thread
        thread.start()

    def _read(self, entry: Attempt) -> None:
        try:
            self._follow(entry)
        except BaseException as error:  # noqa: BLE001 - raised again where the lines are written
            self.failed.append(error)

    def _follow(self, entry: Attempt) -> None:
        """Read to the container's end, going on after the last line when a connection breaks."""
        last, failures = "", 0
        while True:
            query = {"container": CONTAINER, "follow": "true", "timestamps": "true"}
            if last:
                query["sinceTime"] = last
            elif self.tail:
                query["tailLines"] = str(self.tail)
            try:
                for raw in self.cluster.log(self.cluster.namespace, entry.pod, **query):
                    stamp, text = pod_logs.split_stamp(raw)
                    if stamp <= last:
                        continue  # sinceTime counts whole seconds
                    last, failures = stamp, 0
                    self.lines.put(Line(entry.label, text))
                if self._is_over(entry):
                    return
            except ApiError as error:
                if error.code in (400, 404):  # the pod, or its log, has gone
                    return
                failures += 1
                if not error.passes or failures > PATIENCE:
                    raise
                time.sleep(min(0.5 * 2**failures, 10))

    def _is_over(self, entry: Attempt) -> bool:
        """Whether the container has ended; a stream also ends when a proxy closes it."""
        try:
            pod = self.cluster.get(PODS, self.cluster.namespace, entry.pod)
        except ApiError as error:
            if error.code == 404:
                return True
            raise
        return pod_logs.attempt(pod).ended


def follow(cluster: Cluster, name: str, choice: LogChoice) -> int:
    """Write the logs as they grow, until the run ends. The exit code is the run's."""
    run = get_run(cluster, name)
    console, write = aside(), Printer(raw=choice.raw)
    streams = Streams(cluster, choice.tail)
    try:
        run = _follow(cluster, run, choice, streams, write, lambda text: _note(console, text))
    except KeyboardInterrupt:
        console.print(f"{name} goes on in the cluster", markup=False)
        return Exit.INTERRUPTED
    ended = verdict(run, Goal.FINISHED)
    if ended is None:
        return Exit.DONE
    results = invocation.here("results", name, "--cluster", *cluster.options)
    _note(console, f"{name} {ended.text}; its results: {results}")
    return ended.exit_code


def _note(console: Console, text: str) -> None:
    console.print(text, style="yellow", markup=False, soft_wrap=True)


def _follow(
    cluster: Cluster,
    run: dict[str, Any],
    choice: LogChoice,
    streams: Streams,
    write: Callable[[Line], None],
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Until the run has ended and everything is written; the run as it is then."""
    looked, said = -LOOK_SECONDS, ""
    while True:
        finished = run_state.outcome(run) is not None
        if time.monotonic() - looked >= LOOK_SECONDS:
            chosen = pod_logs.wanted(
                _pods(cluster, run), choice.step, choice.shard, every=choice.every
            )
            alive = [entry for entry in chosen if not entry.ended]
            if len(alive) > MANY:
                what = f"{len(alive)} pods write at the same time"
                raise Refused([Fault("--follow", what, "Choose one with --shard")])
            for entry in chosen:
                streams.start(entry)
            looked = time.monotonic()
            if not finished:
                run = _again(cluster, run)
            state = run_state.activity(run)
            if not streams.open and state != said and run_state.outcome(run) is None:
                note(state)
                said = state
        try:
            write(streams.lines.get(timeout=0.2))
            continue
        except queue.Empty:
            pass
        if streams.failed:
            raise streams.failed[0]
        if finished and not streams.open and streams.lines.empty():
            return run


def _again(cluster: Cluster, run: dict[str, Any]) -> dict[str, Any]:
    """The run as it is now; raises when it is another one, or gone."""
    from evalrun_cli.watching import deleted

    try:
        now = cluster.get(RUNS, cluster.namespace, run_state.name_of(run))
    except ApiError as error:
        if error.code == 404:
            raise deleted(run) from error
        if error.passes:
            return run
        raise
    if run_state.uid_of(now) != run_state.uid_of(run):
        raise deleted(run)
    return now
