"""Following the logs of several pods at the same time, each in a thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from evalrun_api.names import CONTAINER
from evalrun_cli import pod_logs
from evalrun_cli.cluster import PODS, Cluster
from evalrun_cli.following import CALM_SECONDS, pause
from evalrun_cli.pod_logs import Attempt
from evalrun_cli.refusals import ApiError

MANY = 32
"""Logs that are followed at the same time; each takes a connection of the API server."""
MANY_LINES = 10_000
"""Lines that may wait to be written: a pager that stands still must not fill the memory."""
PATIENCE = 10
"""Failures one after another before a log is given up."""
LONGEST_PAUSE = 10.0


@dataclass(frozen=True)
class Line:
    """A line of a pod's log."""

    label: str
    text: str


@dataclass(frozen=True)
class GivenUp:
    """The log of a pod can no longer be read; the others can."""

    text: str


@dataclass
class Streams:
    """Logs that are being followed. failed: what ends following altogether."""

    cluster: Cluster
    tail: int | None
    lines: queue.Queue[Line | GivenUp] = field(default_factory=lambda: queue.Queue(MANY_LINES))
    begun: dict[str, threading.Thread] = field(default_factory=dict)
    failed: list[BaseException] = field(default_factory=list)

    @property
    def open(self) -> int:
        """How many are not at their end."""
        return sum(thread.is_alive() for thread in self.begun.values())

    def start(self, pods: Sequence[Attempt]) -> list[Attempt]:
        """Follow the pods' logs, each once and to its end; returns those that there is no room for.

        A pod that has not begun has no log yet, and is of neither.
        """
        new = [entry for entry in pods if entry.begun and entry.pod not in self.begun]
        room = max(MANY - self.open, 0)
        for entry in new[:room]:
            thread = threading.Thread(target=self._read, args=(entry,), daemon=True)
            self.begun[entry.pod] = thread
            thread.start()
        return new[room:]

    def _read(self, entry: Attempt) -> None:
        try:
            self._follow(entry)
        except ApiError as error:
            if error.code in (401, 403):  # the same holds for every other pod
                self.failed.append(error)
                return
            text = f"the log of {entry.pod} can no longer be read: {error.faults[0].what}"
            self.lines.put(GivenUp(text))
        except BaseException as error:  # noqa: BLE001 - raised again where the lines are written
            self.failed.append(error)

    def _follow(self, entry: Attempt) -> None:
        """Read to the container's end, going on after the last line when a connection breaks."""
        last, failures, hurries = "", 0, 0
        while True:
            query = {"container": CONTAINER, "follow": "true", "timestamps": "true"}
            if last:
                query["sinceTime"] = last
            elif self.tail:
                query["tailLines"] = str(self.tail)
            begun = time.monotonic()
            try:
                for raw in self.cluster.log(self.cluster.namespace, entry.pod, **query):
                    stamp, text = pod_logs.split_stamp(raw)
                    if stamp <= last:
                        continue  # sinceTime counts whole seconds
                    last, failures = stamp, 0
                    self.lines.put(Line(entry.label, text))
                if self._is_over(entry):
                    return
                failures = 0
            except ApiError as error:
                if error.code in (400, 404):  # the pod, or its log, has gone
                    return
                failures += 1
                if not error.passes or failures > PATIENCE:
                    raise
            hurries = 0 if time.monotonic() - begun >= CALM_SECONDS else hurries + 1
            time.sleep(pause(max(hurries, failures), LONGEST_PAUSE))

    def _is_over(self, entry: Attempt) -> bool:
        """Whether the container has ended; a stream also ends when a proxy closes it."""
        try:
            pod = self.cluster.get(PODS, self.cluster.namespace, entry.pod)
        except ApiError as error:
            if error.code == 404:
                return True
            raise
        return pod_logs.attempt(pod).ended
