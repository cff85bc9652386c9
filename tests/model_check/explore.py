"""Breadth-first over all reachable states: those without a fault first, then those with one, ..."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

from evalrun_operator import store
from model_check import properties
from model_check.cluster import RUN
from model_check.moves import Found, Moves, Step
from model_check.properties import Violation
from model_check.scenarios import Scenario
from model_check.states import State

LEAST = 31
"""Seconds that pass at least when nothing but time is waited for: each second would be a step."""
SETTLING = 200
"""Steps in which everything has to come to rest when nothing goes wrong any more."""


@dataclass
class Result:
    """What an exploration found.

    settled: states, with those that are only reached while all comes to rest. longest: steps to
    there. ends: phases at rest. seconds: of processor time. violation: the property's name.
    """

    states: int = 0
    transitions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    longest: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    settled: int = 0
    violation: str | None = None
    trace: list[str] = field(default_factory=list)


@contextmanager
def unstripped() -> Iterator[None]:
    """The Store keeps documents as they are: here nobody changes one, and all are small."""
    with (
        mock.patch.object(store, "strip", lambda kind, document: document),
        mock.patch.object(store, "share", lambda document: document),
    ):
        yield


class Exploration:
    """One scenario, all of it."""

    def __init__(self, scenario: Scenario) -> None:
        self.moves = Moves(scenario)
        self._scenario = scenario
        self._index: dict[State, int] = {}
        self._states: list[State] = []
        self._costs: list[int] = []
        self._from: list[tuple[int, str]] = []
        self._next: list[int] = []
        # By the number of faults; what is reached only while all settles comes after them.
        self._layers: list[list[int]] = [[] for _ in range(scenario.faults + 2)]
        self._here = -1
        self.result = Result()

    def run(self) -> Result:
        """Explore; stop at the first violation."""
        begun = time.process_time()
        collects = gc.isenabled()
        gc.disable()  # there are no cycles, and ever more objects to look for them in
        try:
            with unstripped():
                self._explore()
                self._settle()
        except Found as found:
            self.result.violation = found.violation.name
            self.result.trace = self.trace(self._here, found.label, str(found.violation))
            self.result.states = self.result.states or len(self._states)
        finally:
            if collects:
                gc.enable()
        self.result.settled = len(self._states)
        self.result.seconds = time.process_time() - begun
        return self.result

    def trace(self, index: int, label: str, end: str) -> list[str]:
        """How a state is reached, and what then breaks."""
        steps = []
        while index >= 0:
            origin, words = self._from[index]
            steps.append((words, self._states[index]))
            index = origin
        lines = [
            f"{number:3d}. {words}\n     {self.moves.states.describe(state)}"
            for number, (words, state) in enumerate(reversed(steps))
        ]
        return [*lines, f"{len(steps):3d}. {label or 'and so it stays'}", f"     BROKEN {end}"]

    def _explore(self) -> None:
        self._reach(self.moves.first(), 0, -1, "the run is applied")
        for cost, layer in enumerate(self._layers[:-1]):
            for index in layer:  # grows meanwhile
                self._expand(index, cost)
        self.result.states = len(self._states)

    def _reach(self, state: State, cost: int, origin: int, label: str) -> int:
        known = self._index.get(state)
        if known is not None:
            if cost < self._costs[known]:
                self._costs[known] = cost
                self._from[known] = (origin, label)
                self._layers[cost].append(known)
            return known
        index = self._index[state] = len(self._states)
        self._states.append(state)
        self._costs.append(cost)
        self._from.append((origin, label))
        self._next.append(-1)
        self._layers[cost].append(index)
        return index

    def _expand(self, index: int, cost: int) -> None:
        if self._costs[index] != cost or self._next[index] != -1:
            return  # it was reached at less
        state = self._states[index]
        self._here = index
        moves, result = self.moves, self.result
        self._next[index] = index
        for step in moves.free(state):
            result.transitions += 1
            if step.after == state:
                self._quiet(step)
                continue
            found = self._reach(step.after, cost, index, step.label)
            if self._next[index] == index:
                self._next[index] = found
        for step in moves.others(state):
            result.transitions += 1
            self._reach(step.after, cost, index, step.label)
        for step in moves.faulty(state, self._scenario.faults - cost):
            result.transitions += 1
            result.faults[step.fault or ""] += 1
            if step.after != state and cost + step.cost <= self._scenario.faults:
                self._reach(step.after, cost + step.cost, index, step.label)

    # From every state to rest

    def _settle(self) -> None:
        """Follow what happens when all goes well, until nothing happens any more."""
        left: dict[int, int] = {}
        for index in range(len(self._states)):
            path: list[int] = []
            here = index
            while here not in left:
                if len(path) > SETTLING or (path and here in path[-SETTLING:]):
                    words = f"not in {SETTLING} steps"
                    raise Found("", Violation(properties.SETTLES, words))
                path.append(here)
                self._here = here
                onward = self._onward(here)
                if onward == here:
                    left[path.pop()] = 0
                    break
                here = onward
            steps = left.get(here, 0)
            for passed in reversed(path):
                steps += 1
                left[passed] = steps
        self.result.longest = max(left.values(), default=0)

    def _onward(self, index: int) -> int:
        """The next state when all goes well; the same one at the end."""
        state = self._states[index]
        if self._next[index] == -1:
            self._next[index] = index
            for step in self.moves.free(state):
                if step.after != state:
                    self._next[index] = self._reach_late(step.after, index, step.label)
                    break
                self._quiet(step)
        if self._next[index] != index:
            return self._next[index]
        look, step = self.moves.look(state, holds=False)
        if step.after != state:
            self._next[index] = self._reach_late(step.after, index, f"a while later {step.label}")
            return self._next[index]
        self._quiet(step)
        if look.again is None:
            objects = self.moves.states.cluster(state).objects
            try:
                properties.at_rest(objects)
            except Violation as violation:
                raise Found("", violation) from violation
            status = (objects[RUN].get("status") or {}) if RUN in objects else {}
            self.result.ends[str(status.get("phase", "deleted"))] += 1
            return index
        seconds = max(round(look.again), LEAST)
        after = self.moves.states.aged(state, seconds)
        if after == state:
            raise Found(step.label, Violation(properties.SETTLES, "it looks again for ever"))
        self._next[index] = self._reach_late(after, index, f"{seconds} s pass, as it asked for")
        return self._next[index]

    @staticmethod
    def _quiet(step: Step) -> None:
        """What changes nothing writes nothing either."""
        if step.wrote:
            raise Found(step.label, Violation(properties.QUIET, "it writes what is there"))

    def _reach_late(self, state: State, origin: int, label: str) -> int:
        return self._reach(state, len(self._layers) - 1, origin, label)
