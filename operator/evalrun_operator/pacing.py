"""How often a run's progress may be written, so that the API server stays quiet."""

from __future__ import annotations

from collections.abc import Callable

MOST_OWED = 4
"""Intervals that a run may be behind with its budget."""
CROWD = 4096
"""Entries from which on it is worth looking for superfluous ones."""
AHEAD = 2
"""Writes that a run may have in hand: that its pods have started, and their first progress. More
would let an hour of silence buy a burst. The last one is kept for progress."""


class Pacing:
    """A token bucket for each run: one write in an interval, `AHEAD` at once.

    The first progress costs two, so that what was in hand at the beginning is not had twice: a
    life holds one write more than intervals, and the first minute's progress is told early.

    A status that cannot wait is not held back. One that tells of a new step is not counted either:
    of those there are few in a life. Any other is, in place of later progress, so that a mishap now
    and then costs the API server its Event alone. What would be owed beyond `MOST_OWED` is
    forgiven, or a run that has stumbled for an hour would say nothing for the next.
    interval: seconds. clock: seconds that only grow. reading: seconds between two readings of a
    pod's progress.
    """

    def __init__(self, interval: float, clock: Callable[[], float], reading: float = 0.0) -> None:
        self._interval = interval
        self._clock = clock
        self._reading = reading
        self._full_at: dict[str, float] = {}
        self._have_told: set[str] = set()
        self._crowded = CROWD

    def wait(self, uid: str, *, is_progress: bool) -> float:
        """Seconds until the run's status may be written; 0 for at once.

        is_progress: more requests are done. What else can wait is a message or a count.
        """
        spare = (AHEAD - 1) * self._interval if is_progress else 0.0
        return max(self._full_at.get(uid, 0.0) - spare - self._clock(), 0.0)

    def look_again_seconds(self, wait: float, *, is_progress: bool) -> float:
        """When a status that has to wait so long is looked at again, if nothing happens before.

        The next reading of progress brings the run up then, and is written as fresh as it is. To
        write at the first moment would be to write what was read up to a reading ago.
        """
        return wait + (self._reading if is_progress else 0.0)

    def written(self, uid: str, *, is_progress: bool) -> None:
        """A status that counts was written."""
        now = self._clock()
        intervals = 2 if is_progress and uid not in self._have_told else 1
        if is_progress:
            self._have_told.add(uid)
        due = max(self._full_at.get(uid, 0.0), now) + intervals * self._interval
        self._full_at[uid] = min(due, now + MOST_OWED * self._interval)
        if len(self._full_at) > self._crowded:
            # Runs that were deleted at work; a full bucket means as much as none.
            self._full_at = {key: at for key, at in self._full_at.items() if at > now}
            self._have_told &= self._full_at.keys()
            self._crowded = max(2 * len(self._full_at), CROWD)

    def forget(self, uid: str) -> None:
        """The run has ended."""
        self._full_at.pop(uid, None)
        self._have_told.discard(uid)
