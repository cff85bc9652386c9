"""How many requests a second the API server is asked for, once it has said that they are too many.

There is no limit before: a burst of runs goes as fast as the API server takes it. A 429 says that
somebody's share is used up, so all requests of this process slow down together, below what went
through, and become faster again bit by bit until the next 429, or until all is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable

FALL = 0.7
"""What is left, after a 429, of what went through in the best second before it."""
SETTLE_SECONDS = 1.0
"""For which a server may count what came before a fall."""
GROWTH = 1.1
"""Per second without a 429."""
FORGET_SECONDS = 60.0
"""Without a 429, after which there is no limit any more: it would be 300 times as high by then."""
LEAST = 2.0
"""Requests a second that are always allowed: a look at a run must end in time."""


class RateLimit:
    """One for all requests of a process.

    clock: seconds that only grow. waiting: requests that wait for their turn.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._base: float | None = None
        self._fell_at = 0.0
        self._next_at = 0.0
        self._second = 0.0
        self._count = 0
        self._count_before = 0
        self.waiting = 0

    @property
    def per_second(self) -> float | None:
        """Requests a second that are allowed now; None where there is no limit."""
        if self._base is None:
            return None
        since = self._clock() - self._fell_at
        if since > FORGET_SECONDS:
            self._base = None
            return None
        return float(self._base * GROWTH**since)

    def reserve(self) -> float:
        """Take the next turn. Seconds until then."""
        rate = self.per_second
        if rate is None:
            return 0.0
        now = self._clock()
        at = max(self._next_at, now)
        self._next_at = at + 1.0 / rate
        return at - now

    def taken(self) -> None:
        """The API server has taken a request on."""
        self._roll(self._clock())
        self._count += 1

    def refused(self, sent_at: float) -> None:
        """It had one too many. sent_at: by the clock.

        What was sent before the last fall, or while the server still counts what was, says nothing
        of what is allowed since.
        """
        now = self._clock()
        if self._base is not None and sent_at < self._fell_at + SETTLE_SECONDS:
            return
        self._roll(now)
        through = float(max(self._count, self._count_before))
        rate = self.per_second
        if rate is not None:
            through = min(through, rate)
        self._base = max(through * FALL, LEAST)
        self._fell_at = now
        self._next_at = max(self._next_at, now + 1.0 / self._base)

    def _roll(self, now: float) -> None:
        """Begin a new second where the last one is over."""
        passed = now - self._second
        if passed >= 1.0:
            self._count_before = self._count if passed < 2.0 else 0
            self._count = 0
            self._second = now
