"""Which request meets which fault: drawn from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["lease", "watch", "list", "get", "write"]
Fault = Literal[
    "none",
    "delay",
    "drop",
    "lost_reply",
    "duplicate",
    "conflict",
    "too_many",
    "unavailable",
    "stale_list",
    "gone",
]
"""What happens to a request.

drop: the connection is reset and nothing is carried out. lost_reply: reset, after it was carried
out. duplicate: a write is carried out twice, and one of the answers is given. conflict: 409;
too_many: 429, mostly with Retry-After; unavailable: 500 or 503; of these three nothing is carried
out. stale_list: an earlier answer is given again. gone: 410, the watch has to begin anew.
"""
StreamFault = Literal["cut", "late_event", "repeated_event"]
"""What happens within a watch. repeated_event: an earlier line comes once more."""

SHARES: Final[Mapping[Kind, Mapping[Fault, float]]] = {
    "write": {
        "delay": 0.06,
        "drop": 0.03,
        "lost_reply": 0.04,
        "duplicate": 0.04,
        "conflict": 0.03,
        "too_many": 0.004,
        "unavailable": 0.03,
    },
    "get": {
        "delay": 0.06,
        "drop": 0.03,
        "lost_reply": 0.02,
        "too_many": 0.004,
        "unavailable": 0.04,
    },
    "list": {
        "delay": 0.06,
        "drop": 0.03,
        "too_many": 0.02,
        "unavailable": 0.03,
        "stale_list": 0.05,
    },
    "watch": {"delay": 0.05, "drop": 0.05, "too_many": 0.03, "unavailable": 0.05, "gone": 0.08},
    # Leadership is to be lost now and then only: an operator without it does nothing.
    "lease": {"delay": 0.03, "drop": 0.01, "lost_reply": 0.01, "unavailable": 0.01},
}
CUT_SECONDS: Final = 20.0
"""After which a watch is cut, on the average."""
LATE_EVENTS: Final = 0.02
REPEATED_EVENTS: Final = 0.03
LONGEST_DELAY: Final[Mapping[Kind, float]] = {"lease": 0.3}
DELAY_SECONDS: Final = 2.0
VERY_LATE_SECONDS: Final = 8.0
"""One delayed request in ten: it may outlive the process that sent it."""


@dataclass(frozen=True)
class Refusal:
    """An answer without anything being carried out."""

    code: int
    reason: str
    retry_after: int | None = None


class Draws:
    """Draws faults. calm: no more of them. seen: how many there were, by kind and fault."""

    def __init__(self, seed: int) -> None:
        self.calm = False
        self.seen: Counter[str] = Counter()
        self._random = random.Random(f"faults {seed}")

    def request(self, kind: Kind) -> Fault:
        """What happens to the next request of a kind."""
        if self.calm:
            return "none"
        left = self._random.random()
        for fault, share in SHARES[kind].items():
            left -= share
            if left < 0:
                return fault
        return "none"

    def count(self, kind: Kind, fault: Fault | StreamFault) -> None:
        """It was done so."""
        self.seen[f"{kind}: {fault}"] += 1

    def delay(self, kind: Kind) -> float:
        """Seconds before a late request goes on."""
        longest = LONGEST_DELAY.get(kind, DELAY_SECONDS)
        if kind == "write" and self._random.random() < 0.1:
            longest = VERY_LATE_SECONDS
        return self._random.uniform(0.0, longest)

    def refusal(self, fault: Fault, method: str) -> Refusal:
        """The answer for a fault that is one."""
        if fault == "conflict":
            return Refusal(409, "AlreadyExists" if method == "POST" else "Conflict")
        if fault == "gone":
            return Refusal(410, "Expired")
        if fault == "too_many":
            return Refusal(429, "TooManyRequests", self._random.choice((1, 1, None)))
        if self._random.random() < 0.5:
            return Refusal(500, "InternalError")
        return Refusal(503, "ServiceUnavailable", self._random.choice((1, None)))

    def chance(self, share: float) -> bool:
        """Whether something of this share happens now."""
        return not self.calm and self._random.random() < share

    def pick(self, count: int) -> int:
        """One of so many."""
        return self._random.randrange(count)

    def cut_after(self) -> float:
        """Seconds after which a new watch is cut."""
        return self._random.expovariate(1 / CUT_SECONDS)
