"""Asked to stop: finish the chunk in hand, store what is finished, end.

The first SIGTERM or SIGINT sets a flag that is looked at between chunks; outside of a chunk it
interrupts at once. A chunk that outlasts the patience is interrupted too. `Stopped` is no
`Exception`, so that the many `except Exception` of lmms-eval's backends cannot swallow it. A few
tasks catch everything all the same, so whoever takes something from foreign code asks again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

REPEAT_SECONDS = 1.0
"""A signal that follows so soon is the same request (a terminal and a supervisor both send one)."""


class Stopped(BaseException):
    """The process was asked to stop."""


class StopRequest:
    """Whether this process was asked to stop. Signals are handled from construction on.

    patience_seconds: longest time that the chunk in hand may take after that.
    asked: how often it was asked; the second time interrupts the chunk in hand.
    """

    def __init__(self, patience_seconds: int) -> None:
        self.patience_seconds = patience_seconds
        self.asked = 0
        self._asked_at: float | None = None
        self._raised = False
        self._in_chunk = False
        self._shielded = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        first = self._asked_at is None
        if first:
            self.asked = 1
            self._asked_at = time.monotonic()
            if self._in_chunk and self.patience_seconds > 0:
                signal.alarm(self.patience_seconds)
                return
        elif time.monotonic() - (self._asked_at or 0) < REPEAT_SECONDS:
            return
        else:
            self.asked += 1
        self._raise_once()

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._raise_once()

    def _raise_once(self) -> None:
        """Interrupt whatever runs, but never what already unwinds or stores."""
        if not self._shielded and not self._raised:
            self._raised = True
            raise Stopped

    def ask(self) -> None:
        """Note that the process is to stop, as a signal would; interrupts nothing."""
        if self._asked_at is None:
            self.asked, self._asked_at = 1, time.monotonic()

    def raise_if_asked(self) -> None:
        """Raise `Stopped` if the process was asked to stop."""
        if self._asked_at is not None:
            self._raised = True
            raise Stopped

    def raise_if_swallowed(self) -> None:
        """Raise `Stopped` again if it was raised: foreign code has caught it and gone on.

        What that code made of it (an answer that was cut short) counts for nothing.
        """
        if self._raised:
            raise Stopped

    @contextmanager
    def chunk(self) -> Iterator[None]:
        """Work that is finished rather than interrupted, within the patience."""
        self.raise_if_asked()
        self._in_chunk = True
        try:
            yield
        finally:
            self._in_chunk = False
            signal.alarm(0)
        self.raise_if_asked()

    def shield(self) -> None:
        """From now on no signal interrupts: the process ends by itself, storing what it has."""
        self._shielded = True
        signal.alarm(0)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Work that no signal interrupts: storing what is finished."""
        before, self._shielded = self._shielded, True
        signal.alarm(0)
        try:
            yield
        finally:
            self._shielded = before


def stop_at_eof() -> None:
    """Send this process SIGTERM when its standard input ends: whoever started it has died."""

    def watch() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="stdin", daemon=True).start()
