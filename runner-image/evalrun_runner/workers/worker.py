"""One worker as its supervisor has it: a process of this same program, and its lives."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from evalrun_api import reasons
from evalrun_runner.workers.endings import Ending, ending, may_live_again
from evalrun_runner.workers.last_words import last_words, words
from evalrun_runner.workers.mailbox import Mailbox
from evalrun_runner.workers.merging import Lives
from evalrun_runner.workers.poison import Death

log = logging.getLogger(__name__)

KEPT_LINES = 300
"""Of a worker's log; a crash prints the stacks of all threads."""
OVERDUE_SECONDS = 60.0
"""After its deadline a worker that stalled ends itself, with its stacks in the log; later than
this, it can't."""

GONE_SECONDS = 30.0
"""After SIGKILL. A process that a driver holds within the kernel may never be gone."""


@dataclass(frozen=True)
class Launch:
    """How a worker is started. command: its arguments. environment: the whole of it."""

    command: list[str]
    environment: Mapping[str, str]


class Worker:
    """A worker's process, started anew when it dies.

    number: which one it is of its pod's.
    """

    def __init__(self, number: int, mailbox: Mailbox, launch: Launch) -> None:
        self.number = number
        self.lives = Lives()
        self.restarts = 0
        self._mailbox = mailbox
        self._launch = launch
        self._deaths = mailbox.deaths()
        self._in_a_row = 0
        self._overdue = False
        self._killed_at: float | None = None
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self._begin_life()

    def _begin_life(self) -> None:
        self._mailbox.begin_life()
        self._overdue = False
        self._killed_at = None
        self._said.clear()
        # A group of its own, so that what it started can be ended with it.
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-P", "-m", "evalrun_runner", *self._launch.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(self._launch.environment),
            process_group=0,
        )
        assert self._process.stdout is not None
        name = f"worker-{self.number}-log"
        arguments = (self._process.stdout, self._said)
        self._reader = threading.Thread(target=_pass_on, args=arguments, name=name, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the life that is going on."""
        return self._process.pid

    def stop(self) -> None:
        """Ask it to store what is finished and end."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, and wait until it has, if it ever does."""
        self._kill()
        self._clear_up()

    def _kill(self) -> None:
        self._killed_at = self._killed_at or time.monotonic()
        with suppress(ProcessLookupError):
            self._process.kill()

    def look(self) -> None:
        """Read how far it is; end it if it has stalled and does not end itself."""
        if (state := self._mailbox.state()) is not None:
            self.lives.update(state)
        deadline = self._mailbox.in_hand().deadline
        late = bool(deadline) and time.monotonic() > deadline + OVERDUE_SECONDS
        if late and not self._overdue and self._process.poll() is None:
            log.error("worker %d does not end itself; it is killed", self.number)
            self._overdue = True
            self._kill()

    def poll(self) -> int | None:
        """The exit code of this life, negative for a signal; None while it goes on.

        One that SIGKILL does not end within `GONE_SECONDS` is given up.
        """
        code = self._process.poll()
        if code is None and self._killed_at is not None:
            waited = time.monotonic() - self._killed_at
            return -signal.SIGKILL if waited > GONE_SECONDS else None
        return code

    def ended(self, code: int, *, memory_killed: bool) -> Ending:
        """What this life's end means. To be called once, when `poll` has given its exit code."""
        self._clear_up()
        self.look()
        hand = self._mailbox.in_hand()
        # It may have ended itself for a stall in the way that leaves no word.
        late = bool(hand.marks) and time.monotonic() > hand.deadline
        said, message = self.lives.now.reason, self.lives.now.message
        stalled = self._overdue or (late and said == "Running")
        found = ending(code, said, message, memory_killed=memory_killed, stalled=stalled)
        if self._process.poll() is None:  # another life would find its accelerators taken
            what = f"worker {self.number} stalled, and SIGKILL does not end it: its driver hangs"
            return Ending("failed", reasons.STALLED, what)
        self._in_a_row = 1 if hand.finished else self._in_a_row + 1
        if found.blame and hand.marks:
            self._deaths.append(Death(found.blame, tuple(hand.marks)))
            self._mailbox.write_deaths(self._deaths)
        self.lives.end_life()
        return found

    def may_live_again(self) -> bool:
        """Whether it is to be started anew after it died."""
        return may_live_again(self._in_a_row, self.restarts)

    def live_again(self) -> None:
        """Start it anew."""
        self.restarts += 1
        self._begin_life()

    def last_words(self) -> str:
        """What its log says of its death."""
        return last_words(list(self._said))

    def _clear_up(self) -> None:
        if self._process.poll() is None:
            since = self._killed_at or time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(GONE_SECONDS - (time.monotonic() - since), 0.1))
        with suppress(ProcessLookupError):  # what it left behind may hold its accelerators
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join(2)  # a process that it left behind may hold the other end
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()


def _pass_on(output: IO[bytes], said: deque[str]) -> None:
    """Copy what a worker writes into this process' log, and keep the last of it."""
    with output:
        while line := output.readline(1 << 16):
            with suppress(OSError):
                os.write(2, line)
            if text := words(line):
                said.append(text)
