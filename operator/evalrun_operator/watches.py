"""Keeps the watches going: what ends them is an outage, or a defect of the framework's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
STEADY_SECONDS = 60.0
"""Watches that lasted so long were well."""


class Watches:
    """Runs the watches, and begins them anew when they end.

    watch: runs until cancelled, and raises when it cannot go on. restarted: told each time. clock:
    seconds that only grow.
    """

    def __init__(
        self,
        watch: Callable[[], Awaitable[None]],
        restarted: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._watch = watch
        self._restarted = restarted
        self._clock = clock
        self._down_since: float | None = None

    def down_seconds(self) -> float:
        """How long there have been no watches that last."""
        return 0.0 if self._down_since is None else self._clock() - self._down_since

    async def run(self) -> None:
        """Watch for ever."""
        pause = FIRST_PAUSE
        while True:
            began = self._clock()
            recovering = asyncio.get_running_loop().call_later(STEADY_SECONDS, self._recovered)
            try:
                await self._watch()
            except Exception as error:
                log.error("the watches ended: %r", error, exc_info=error)
            finally:
                recovering.cancel()
            if self._clock() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE
            if self._down_since is None:
                self._down_since = self._clock()
            self._restarted()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _recovered(self) -> None:
        self._down_since = None
