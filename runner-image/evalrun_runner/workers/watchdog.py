"""A watch over the process that answers: when nothing is finished for too long, it says where
everything stands and ends the process.

Three ways, each for when the one before does not get through: an exception in the main thread,
which unwinds and stores what is finished; the process' end out of another thread; the process' end
by faulthandler's own thread, which needs no interpreter and so works while foreign code holds it.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail

log = logging.getLogger(__name__)

UNWIND_SECONDS = 15.0
"""How long the main thread may take to store what is finished, after it was told of a stall. The
journal stores every five seconds by itself, so by then it has."""
LONGEST_PAUSE_SECONDS = 3600
"""Least bound on what goes on between two calls of the backend: importing, loading the model,
building requests, storing. None of it is a request, so `stallSeconds` does not speak of it."""
_STDERR = 2


class Stalled(BaseException):
    """No request was finished in time. No `Exception`: backends swallow those."""


class Watchdog:
    """Watches the main thread from `watching` on.

    stall_seconds: longest time that one call of the backend may take.
    end: ends the process for an error, when the main thread does not.
    error: what a stall is reported as, once there was one.
    """

    def __init__(self, stall_seconds: float, end: Callable[[EvalrunError], None]) -> None:
        self._stall_seconds = stall_seconds
        self._pause_seconds = max(LONGEST_PAUSE_SECONDS, 4 * stall_seconds)
        self._end = end
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._calling = False
        self._interrupting = False
        self._interrupted = False
        self.error: EvalrunError | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the main thread, which this has to be called in, for as long as it is within."""
        before = signal.signal(signal.SIGUSR2, self._interrupt)
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._set(self._pause_seconds, calling=False)
        thread.start()
        try:
            yield
        finally:
            self._set(None, calling=False)
            thread.join()
            signal.signal(signal.SIGUSR2, before)

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call of the backend. Within it nothing but requests are answered."""
        if self._deadline is None:  # nobody watches
            yield
            return
        self._set(self._stall_seconds, calling=True)
        try:
            yield
            if self._interrupted:  # foreign code has swallowed it; what it gives is no answer
                raise Stalled
        except Stalled:
            raise  # the watch is over, and the message tells of this call
        except BaseException:
            self._set(self._pause_seconds, calling=False)
            raise
        self._set(self._pause_seconds, calling=False)

    def _set(self, seconds: float | None, *, calling: bool) -> None:
        with self._changed:
            self._deadline = None if seconds is None else time.monotonic() + seconds
            self._calling = calling
            self._changed.notify()
        if seconds is None:
            faulthandler.cancel_dump_traceback_later()
        else:
            last = seconds + 2 * UNWIND_SECONDS
            faulthandler.dump_traceback_later(last, exit=True, file=_STDERR)

    def _watch(self) -> None:
        if not self._wait_for_stall():
            return
        self.error = error = self._describe()
        log.error("%s", error, extra={"reason": error.reason.name, "stacks": stacks()})
        sys.stderr.flush()
        faulthandler.dump_traceback(file=_STDERR, all_threads=True)
        self._interrupting = True
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
        until = time.monotonic() + UNWIND_SECONDS
        with self._changed:
            while self._deadline is not None:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            else:
                return
        self._end(error)

    def _describe(self) -> EvalrunError:
        if self._calling:
            what = f"no request was finished within stallSeconds ({self._stall_seconds:g})"
            return fail(reasons.STALLED, "the backend", what)
        what = f"no request was asked for {self._pause_seconds:g} s"
        return fail(reasons.STALLED, "the runner", what, "Read the stacks in the log")

    def _wait_for_stall(self) -> bool:
        """Sleep until the deadline has passed; whether it has, or the watch is over."""
        with self._changed:
            while self._deadline is not None:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    return True
                self._changed.wait(left)
            return False

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._interrupting:
            self._interrupting = False
            self._interrupted = True
            raise Stalled


def stacks() -> dict[str, list[str]]:
    """Where every thread of this process stands, by its name."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, str(ident)): [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_stack(top)
        ]
        for ident, top in sys._current_frames().items()
    }


def end_process(code: int) -> None:
    """End the process at once. Only for when it does not end by itself."""
    logging.shutdown()
    os._exit(code)
