"""Lets runs in under the administrator's caps, from what the Store knows.

What changed since the last look is taken up then, in one go, so that every decision rests on the
same view. Whoever is let in counts from that moment, before its first Job is seen; that is the only
thing that is remembered, and a restart finds the Job or lets it in anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from evalrun_api.operator_config import Caps
from evalrun_operator.decisions import Plan, RunKey, Waiting
from evalrun_operator.line import Line
from evalrun_operator.standing import standing_of
from evalrun_operator.store import Store


class Gate:
    """The line of the Store's runs."""

    def __init__(self, store: Store, caps: Caps) -> None:
        self._store = store
        self._line = Line(caps)
        self._touched: dict[str, None] = {}
        self._found: list[str] = []
        store.touched = self._touch

    @property
    def in_line(self) -> int:
        """How many runs wait."""
        return len(self._line)

    def let_in(self) -> list[RunKey]:
        """Runs that may begin from now on, in the order in which they may."""
        while self._touched:
            touched, self._touched = self._touched, {}
            for uid in touched:
                family = self._store.family(uid)
                self._line.put(uid, standing_of(*family) if family is not None else None)
        found, self._found = [*self._found, *self._line.admit()], []
        return self._keys(found)

    def new_heads(self) -> list[RunKey]:
        """Runs that have become the next of their namespaces, which they may not know yet."""
        return self._keys(self._line.new_heads())

    def ask(self, uid: str) -> Waiting | None:
        """The place of a run that has to wait; None for one that may begin or has.

        Asked for by whoever is about to look at the run, after `let_in`.
        """
        if self._line.call_back(uid):
            # Not the run itself: it would be looked at again and again, each time at once.
            self._found += [found for found in self._line.admit() if found != uid]
        place = self._line.place(uid)
        return Waiting(place.position, str(place)) if place is not None else None

    def decided(self, uid: str, plan: Plan) -> None:
        """A look at a run came to this."""
        if plan.stands_aside:
            self._line.set_aside(uid)

    def failed(self, uid: str) -> None:
        """A look at a run ended by a defect, and may do so for ever."""
        self._line.set_aside(uid)

    def _keys(self, uids: Iterable[str]) -> list[RunKey]:
        return [key for uid in uids if (key := self._store.key_of(uid)) is not None]

    def _touch(self, uid: str) -> None:
        self._touched[uid] = None
