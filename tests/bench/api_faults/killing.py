"""Kills a process exactly between two of its writes, and measures how long its successor takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Kills:
    """Kills the sender of every so many-th write: before it is carried out, or after it.

    wanted: how many in all. gap: writes until the next one, on the average, when so many are left.
    kill: ends the process at once. clock: of the event loop. born_at: when the process that runs
    now was started; a write that came before is a dead one's.
    """

    wanted: int
    gap: Callable[[int], float]
    seed: int
    kill: Callable[[], None]
    clock: Callable[[], float]
    born_at: float = 0.0
    done: int = 0
    before_write: int = 0
    recovery: list[float] = field(default_factory=list)
    _left: int = 0
    _at_before: bool = False
    _killed_at: float | None = None

    def __post_init__(self) -> None:
        self._random = random.Random(f"kills {self.seed}")
        self._draw()

    def before(self, at: float) -> bool:
        """See `Interloper`."""
        if self._killed_at is not None or at < self.born_at:
            return False
        self._left -= 1
        if self._left > 0 or not self._at_before or self.done >= self.wanted:
            return False
        self.before_write += 1
        self._do()
        return True

    def after(self, at: float, code: int) -> bool:
        """See `Interloper`."""
        if self._killed_at is not None:
            if at >= self.born_at > self._killed_at and code < 300:
                self.recovery.append(self.clock() - self._killed_at)
                self._killed_at = None
                self._draw()
            return False
        if self._left > 0 or self.done >= self.wanted or at < self.born_at:
            return False
        self._do()
        return True

    def _do(self) -> None:
        self.done += 1
        self._killed_at = self.clock()
        self.kill()

    def _draw(self) -> None:
        self._left = max(
            round(self.gap(self.wanted - self.done) * self._random.uniform(0.2, 1.8)), 1
        )
        self._at_before = self._random.random() < 0.5
