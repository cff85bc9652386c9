"""What this process is asking at this moment, noted before it is asked.

A worker that dies cannot say what of; this is how its supervisor knows what it was doing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError
from evalrun_runner.journal.request_list import Request
from evalrun_runner.workers import poison
from evalrun_runner.workers.mailbox import InHand, Mailbox
from evalrun_runner.workers.poison import Death
from evalrun_runner.workers.watchdog import Stalled


def _is_death(error: BaseException) -> bool:
    """Whether what is in hand may be what this process dies of: a stall, a lost accelerator."""
    lost = isinstance(error, EvalrunError) and error.reason is reasons.WORKER_FAILED
    return lost or isinstance(error, Stalled)


class Hand:
    """The requests in hand of a worker, for its supervisor; of any other process, for nobody.

    deaths: what earlier lives of this worker died of.
    """

    def __init__(self, mailbox: Mailbox | None = None, stall_seconds: float = 0.0) -> None:
        self.deaths: list[Death] = [] if mailbox is None else mailbox.deaths()
        self._mailbox = mailbox
        self._stall_seconds = stall_seconds
        self._finished = 0

    @contextmanager
    def holding(self, requests: Sequence[Request]) -> Iterator[None]:
        """One call of the backend for these requests."""
        if self._mailbox is None:
            yield
            return
        marks = [poison.mark(request.key, request.fingerprint) for request in requests]
        deadline = time.monotonic() + self._stall_seconds
        self._note(InHand(marks=marks, finished=self._finished, deadline=deadline))
        try:
            yield
        except BaseException as error:
            if not _is_death(error):
                self._note(InHand(finished=self._finished))
            raise
        self._note(InHand(finished=self._finished))

    def answered(self, requests: int) -> None:
        """So many of those in hand have an answer. One that only failed shows no life."""
        self._finished += requests

    def _note(self, in_hand: InHand) -> None:
        assert self._mailbox is not None
        self._mailbox.hold(in_hand)
