"""How often a run's progress may be written, so that the API server stays quiet."""

from __future__ import annotations

from collections.abc import Callable

CROWD = 4096
"""Entries from which on it is worth looking for superfluous ones."""


class Pacing:
    """One write a run and interval; the first of a run is free.

    A bucket that holds one token: an hour of silence does not buy two writes in a row.
    interval: seconds. clock: seconds that only grow.
    """

    def __init__(self, interval: float, clock: Callable[[], float]) -> None:
        self._interval = interval
        self._clock = clock
        self._next: dict[str, float] = {}
        self._crowded = CROWD

    def wait(self, uid: str) -> float:
        """Seconds until the run's progress may be written; 0 for at once."""
        return max(self._next.get(uid, 0.0) - self._clock(), 0.0)

    def written(self, uid: str) -> None:
        """A status was written; an urgent one carries the progress as well."""
        now = self._clock()
        self._next[uid] = now + self._interval
        if len(self._next) > self._crowded:
            # Runs that were deleted at work; a time that has passed means as much as none.
            self._next = {key: at for key, at in self._next.items() if at > now}
            self._crowded = max(2 * len(self._next), CROWD)

    def forget(self, uid: str) -> None:
        """The run has ended."""
        self._next.pop(uid, None)
