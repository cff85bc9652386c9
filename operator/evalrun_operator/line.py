"""Who may begin, under the administrator's caps, and who waits behind whom. Pure.

Each namespace has a line of its own, in the order in which its runs were created. Where namespaces
compete, for pending pods, the one with the fewest runs at work comes first, so that a thousand
waiting runs of one never hold up the only one of another.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from evalrun_api.operator_config import Caps


class Order(NamedTuple):
    """What runs of one namespace are ordered by. created: RFC 3339, in UTC."""

    created: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Of a run that is at work, or would be if no cap were against it.

    pods: of one at work, those that are pending; of one that waits, those that it would add.
    """

    namespace: str
    order: Order
    at_work: bool
    pods: int = 0


@dataclass(frozen=True)
class Place:
    """A place in line. position: 1 for the next run of the namespace.

    cap: that is in the way of the line. limit, used: of what it counts. pods: that the run adds.
    """

    position: int
    namespace: str
    cap: Literal["runs", "pods"]
    limit: int
    used: int
    pods: int

    def __str__(self) -> str:
        if self.cap == "runs":
            runs = "1 run" if self.limit == 1 else f"{self.limit} runs"
            why = f"namespace {self.namespace} may have {runs} at work and has {self.used}"
        else:
            why = f"{self.limit} pods may wait for their start and {self.used} do"
            adds = "1 more" if self.pods == 1 else f"{self.pods} more"
            why += f", this run would add {adds}"
        return f"{ordinal(self.position)} in line: {why}"


class Line:
    """The runs at work and those that wait.

    A run that `admit` has let in holds its place among those at work until `put` says what became
    of it: others must not be let in meanwhile because its first Job is not seen yet.
    """

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._standings: dict[str, Standing] = {}
        self._waiting: dict[str, list[Order]] = {}
        self._admitted: set[str] = set()
        self._aside: set[str] = set()
        self._active: Counter[str] = Counter()
        self._pending = 0
        self._stirred: set[str] = set()
        self._heads: dict[str, str] = {}
        self._new_heads: list[str] = []
        self._fits_from: int | None = None
        """Pending pods at which the run would fit that keeps the others from going first."""

    def __len__(self) -> int:
        return sum(len(line) for line in self._waiting.values())

    def __contains__(self, uid: str) -> bool:
        """Whether a run waits."""
        return uid in self._standings and not self._counts(uid) and uid not in self._aside

    @property
    def pending(self) -> int:
        """Pending pods of all runs at work and of those let in."""
        return self._pending

    def at_work(self, namespace: str) -> int:
        """Runs of a namespace at work, those let in among them."""
        return self._active[namespace]

    def put(self, uid: str, standing: Standing | None) -> None:
        """Learn where a run stands now; None: it neither works nor wants to."""
        if standing is not None and self._standings.get(uid) == standing:
            return
        self._take_out(uid)
        if standing is None or standing.at_work:
            self._admitted.discard(uid)
            self._aside.discard(uid)
        if standing is not None:
            self._put_in(uid, standing)

    def set_aside(self, uid: str) -> None:
        """A run cannot begin though it may: it keeps nobody waiting until it is called back."""
        standing = self._standings.get(uid)
        if standing is None or standing.at_work:
            return
        self._take_out(uid)
        self._admitted.discard(uid)
        self._aside.add(uid)
        self._put_in(uid, standing)

    def call_back(self, uid: str) -> bool:
        """Have a run take the place that is due to it. False for one that was not set aside."""
        if uid not in self._aside:
            return False
        standing = self._standings[uid]
        self._take_out(uid)
        self._aside.discard(uid)
        self._put_in(uid, standing)
        return True

    def admit(self) -> list[str]:
        """Let in all that may begin now, in the order in which they may."""
        found: list[str] = []
        stirred = set(self._stirred)
        heads = [
            (self._active[namespace], self._waiting[namespace][0], namespace)
            for namespace in self._worth_a_look()
            if self._has_room(namespace)
        ]
        heapq.heapify(heads)
        if heads:
            self._fits_from = None
        while heads:
            _, order, namespace = heapq.heappop(heads)
            standing = self._standings[order.uid]
            if standing.pods and (self._fits_from is not None or not self._fits(standing.pods)):
                if self._fits_from is None:
                    self._fits_from = max((self._caps.max_pending_pods or 0) - standing.pods, 0)
                continue
            self._take_out(order.uid)
            self._admitted.add(order.uid)
            self._put_in(order.uid, standing)
            found.append(order.uid)
            if namespace in self._waiting and self._has_room(namespace):
                following = self._waiting[namespace][0]
                heapq.heappush(heads, (self._active[namespace], following, namespace))
        stirred |= self._stirred
        self._stirred.clear()
        for namespace in stirred:
            self._note_head(namespace)
        return found

    def new_heads(self) -> list[str]:
        """Runs that have become the next ones of their namespaces since this was last asked."""
        found, self._new_heads = self._new_heads, []
        return found

    def place(self, uid: str) -> Place | None:
        """Where a run waits; None for one that does not."""
        if uid not in self:
            return None
        standing = self._standings[uid]
        namespace = standing.namespace
        position = bisect_left(self._waiting[namespace], standing.order) + 1
        limit = self._limit(namespace)
        if limit is not None and self._active[namespace] >= limit:
            used = self._active[namespace]
            return Place(position, namespace, "runs", limit, used, standing.pods)
        pods = self._caps.max_pending_pods or 0
        return Place(position, namespace, "pods", pods, self._pending, standing.pods)

    def _note_head(self, namespace: str) -> None:
        line = self._waiting.get(namespace)
        if line is None:
            self._heads.pop(namespace, None)
        elif self._heads.get(namespace) != line[0].uid:
            self._heads[namespace] = line[0].uid
            self._new_heads.append(line[0].uid)

    def _worth_a_look(self) -> Iterator[str]:
        """Namespaces of which a run might begin now that could not when it was last asked."""
        cap = self._caps.max_pending_pods
        if cap is not None and (self._stirred or self._pending <= (self._fits_from or 0)):
            yield from self._waiting
        else:
            yield from (namespace for namespace in self._stirred if namespace in self._waiting)

    def _limit(self, namespace: str) -> int | None:
        own = self._caps.namespaces.get(namespace)
        return own.max_active_runs if own is not None else self._caps.max_active_runs

    def _has_room(self, namespace: str) -> bool:
        limit = self._limit(namespace)
        return limit is None or self._active[namespace] < limit

    def _fits(self, pods: int) -> bool:
        """Whether so many pods may be added. What is larger than the cap fits where none is."""
        cap = self._caps.max_pending_pods
        return cap is None or self._pending == 0 or self._pending + pods <= cap

    def _counts(self, uid: str) -> bool:
        return self._standings[uid].at_work or uid in self._admitted

    def _put_in(self, uid: str, standing: Standing) -> None:
        self._standings[uid] = standing
        namespace = standing.namespace
        if self._counts(uid):
            self._active[namespace] += 1
            self._pending += standing.pods
        elif uid not in self._aside:
            line = self._waiting.setdefault(namespace, [])
            insort(line, standing.order)
            if line[0] == standing.order:
                self._stirred.add(namespace)

    def _take_out(self, uid: str) -> None:
        standing = self._standings.get(uid)
        if standing is None:
            return
        namespace = standing.namespace
        if self._counts(uid):
            self._active[namespace] -= 1
            self._pending -= standing.pods
            self._stirred.add(namespace)
            if not self._active[namespace]:
                del self._active[namespace]
        elif uid not in self._aside:
            line = self._waiting[namespace]
            position = bisect_left(line, standing.order)
            del line[position]
            if position == 0:
                self._stirred.add(namespace)
            if not line:
                del self._waiting[namespace]
        del self._standings[uid]


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, … 11th, … 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{ending or 'th'}"
