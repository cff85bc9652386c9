"""How many requests are asked at once, after memory ran out: pure."""

from __future__ import annotations

FIRST_WAIT = 2
LONGEST_WAIT = 64
"""Chunks at a smaller batch before a larger one is tried again."""


class BatchSize:
    """The batch with which each chunk of a task begins.

    A chunk that runs out of memory is finished in smaller batches, and the next one begins with
    the planned batch again: mostly it was one large request. Only when two chunks in a row fail
    does the smaller batch stay, for some chunks; then it doubles, and each time that fails the wait
    doubles too. So a model that never fits pays for few failures, and answers go back to the
    planned batch as soon as they can.
    """

    def __init__(self, planned: int) -> None:
        self.planned = planned
        self._next = planned
        self._failed_before = False
        self._probing = False
        self._wait = FIRST_WAIT
        self._left = 0

    def begin(self) -> int:
        """The batch to begin the next chunk with."""
        return self._next

    def end(self, smallest: int) -> None:
        """A chunk was finished; `smallest` is the smallest batch that it took."""
        if smallest < self._next:
            self._shrunk(smallest)
        elif self._next == self.planned:
            self._failed_before, self._probing, self._wait = False, False, FIRST_WAIT
        else:
            self._left -= 1
            if self._left <= 0:
                self._next, self._probing = min(2 * self._next, self.planned), True

    def _shrunk(self, smallest: int) -> None:
        if not self._failed_before:
            self._failed_before = True
            return
        if self._probing:
            self._wait = min(2 * self._wait, LONGEST_WAIT)
        self._next, self._left, self._probing = smallest, self._wait, False
