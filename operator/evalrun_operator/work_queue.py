"""Which run is looked at next: each at most once in the queue, and by one worker at a time."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

from evalrun_operator.decisions import RunKey

FIRST_DELAY = 0.25
LONGEST_DELAY = 90.0
"""Seconds between two tries of a run that fails again and again."""
LONGEST_ASKED = 600.0
"""Seconds that the API server may ask to wait at most: its word comes through proxies."""
SPARE_ENTRIES = 64
"""Overtaken entries that the heap may hold beyond as many as there are keys."""


class QueueClosed(Exception):  # noqa: N818 - a state
    """There is nothing more to be done."""


class WorkQueue:
    """Keys in the order in which they are due.

    A key that is being worked on is not handed out again before it is `done`. All waiting rests on
    one heap and one timer, however many keys there are.
    clock: the event loop's time. random: from [0, 1), for jitter.
    """

    def __init__(self, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._due: dict[RunKey, float] = {}
        self._heap: list[tuple[float, int, RunKey]] = []
        self._order = count()
        self._in_hand: dict[RunKey, float] = {}
        self._again: dict[RunKey, float] = {}
        self._failures: dict[RunKey, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._taken_at = clock()

    def add(self, key: RunKey, after: float = 0.0) -> None:
        """Have a key looked at in so many seconds, or earlier if it is due earlier."""
        if self._closed:
            return
        due = self._clock() + max(after, 0.0)
        if key in self._in_hand:
            self._again[key] = min(due, self._again.get(key, due))
            return
        if self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._order), key))
        if len(self._heap) > 2 * len(self._due) + SPARE_ENTRIES:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        self._wake()

    async def get(self) -> RunKey:
        """The next key that is due. Raises `QueueClosed`."""
        while True:
            if self._closed:
                raise QueueClosed
            key = self._take()
            if key is not None:
                self._wake()  # for whatever else is due
                return key
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._wake()
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # it was woken for something that another has to take now
                elif waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise

    def done(self, key: RunKey) -> None:
        """The work in hand went well."""
        self._failures.pop(key, None)
        self._put_back(key)

    def failed(self, key: RunKey, at_least: float = 0.0) -> float:
        """The work in hand went wrong: try again later. Returns in how many seconds.

        at_least: seconds that the API server asked to wait.
        """
        times = self._failures.get(key, 0)
        self._failures[key] = times + 1
        delay = min(FIRST_DELAY * 2.0 ** min(times, 16), LONGEST_DELAY)
        delay = max(delay * (0.5 + self._random() / 2), min(at_least, LONGEST_ASKED))
        # Whatever was asked for meanwhile would run into the same wall.
        self._again[key] = self._clock() + delay
        self._put_back(key)
        return delay

    def close(self) -> None:
        """Hand out nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    @property
    def depth(self) -> int:
        """Keys that are due and wait for a worker."""
        now = self._clock()
        return sum(1 for due in self._due.values() if due <= now)

    @property
    def is_crowded(self) -> bool:
        """Whether a key is due for which there is no worker."""
        self._prune()
        return bool(self._heap) and self._heap[0][0] <= self._clock() and not self._waiters

    def longest_wait(self) -> float:
        """Seconds for which keys have been due and none was taken.

        Where thousands are due and one after another is taken, nothing stands still.
        """
        now = self._clock()
        late = now - min(self._due.values(), default=now)
        return max(min(late, now - self._taken_at), 0.0)

    def longest_work(self) -> float:
        """Seconds for which a key has been in hand at most."""
        now = self._clock()
        return max((now - since for since in self._in_hand.values()), default=0.0)

    def _take(self) -> RunKey | None:
        self._prune()
        now = self._clock()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._due[key]
        self._in_hand[key] = self._taken_at = now
        return key

    def _put_back(self, key: RunKey) -> None:
        self._in_hand.pop(key, None)
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, again - self._clock())

    def _prune(self) -> None:
        """Drop entries that an earlier one for the same key has overtaken."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def _wake(self) -> None:
        """Wake one waiter if something is due; else set the timer for when it will be."""
        self._prune()
        if not self._waiters or not self._heap:
            return
        due = self._heap[0][0]
        if due <= self._clock():
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._wake)
