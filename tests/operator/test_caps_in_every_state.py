"""Two runs and room for one: all states that looks, crashes and a person can lead to."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any
from unittest import mock

import pytest
from fleet import Fleet
from lives import CPU
from world import Crashed, Fate, World

from evalrun_operator import standing
from evalrun_operator.api_errors import ApiError
from evalrun_operator.decisions import RunKey
from evalrun_operator.executor import Again
from evalrun_operator.gate import Gate
from evalrun_operator.strip import KINDS

pytestmark = pytest.mark.decisions

CAPS = {"maxActiveRuns": 1}
NAMES = ("a", "b")
GAP = re.compile(r'"(?:uid|resourceVersion)": "[^"]*"|-run-0-\d+')
Act = Callable[[World], None]


def edit(name: str, suspend: bool) -> Act:
    def act(world: World) -> None:
        run = world.objects.get(("EvaluationRun", name))
        if run is not None:
            run["spec"] = {**run["spec"], "suspend": suspend}
            run["metadata"]["generation"] += 1
            world.touch(run)

    return act


def delete(name: str) -> Act:
    return lambda world: world.remove("EvaluationRun", name)


STOPS_FIRST = (edit("a", True), edit("a", False))
SCRIPTS: dict[str, tuple[tuple[Act, ...], int]] = {
    "nobody acts": ((), 1),
    "the first is suspended and resumed": (STOPS_FIRST, 0),
    "the second is suspended": ((edit("b", True),), 0),
    "the first is deleted": ((delete("a"),), 0),
}
"""What a person does, at any moments in this order, and how much goes wrong."""


@dataclass(frozen=True)
class State:
    """The world, which nobody changes, what a person has done, and what went wrong.

    let_in: runs of which the operator remembers that it let them in.
    """

    world: World
    let_in: frozenset[str]
    acts: int
    faults: int

    def key(self) -> tuple[Any, ...]:
        """Equal for states from which the same can follow: without uids and versions."""
        world = self.world
        objects = sorted(
            (kind, name, json.dumps({**doc, "_fate": 0}, sort_keys=True, default=str))
            for (kind, name), doc in world.objects.items()
        )
        return GAP.sub("", repr(objects)), self.let_in, self.acts, self.faults


class Exploration:
    """Breadth-first from the moment in which both runs have been applied."""

    def __init__(self, script: tuple[Act, ...], faults: int) -> None:
        self._script = script
        self._faults = faults
        self._fleet = Fleet(CAPS, fates={"all": [Fate(works=0)] * 4})
        for name in NAMES:
            self._fleet.apply(name, **CPU)
        self.states = 0
        self.exceeded: dict[str, list[str]] | None = None

    def run(self) -> None:
        first = State(self._fleet.world, frozenset(), 0, 0)
        seen, ahead = {first.key()}, [first]
        while ahead and self.exceeded is None:
            state = ahead.pop(0)
            self.states += 1
            if self.states % 25 == 0:
                self._comes_to_an_end(state)
            for after in self._after(state):
                if any(len(names) > 1 for names in self._at_work(after.world).values()):
                    self.exceeded = self._at_work(after.world)
                if (key := after.key()) not in seen:
                    seen.add(key)
                    ahead.append(after)

    def _at_work(self, world: World) -> dict[str, list[str]]:
        self._fleet.world = world
        return self._fleet.at_work()

    def _after(self, state: State) -> Iterator[State]:
        world = copy.deepcopy(state.world)
        world.tick(0)
        yield State(world, state.let_in, state.acts, state.faults)
        if state.acts < len(self._script):
            world = copy.deepcopy(state.world)
            self._script[state.acts](world)
            yield State(world, state.let_in, state.acts + 1, state.faults)
        if state.faults < self._faults:
            yield State(state.world, frozenset(), state.acts, state.faults + 1)  # a restart
        for name in NAMES:
            yield self._look(state, name)[0]
            if state.faults < self._faults:
                for fault in ("crash_after", "lose_after"):
                    for number in count(1):
                        after, struck = self._look(state, name, fault, number)
                        if not struck:
                            break
                        yield after

    def _look(
        self, state: State, name: str, fault: str = "", number: int = 0
    ) -> tuple[State, bool]:
        """One look of an operator that remembers whom it let in; whether the fault struck."""
        world = self._take(copy.deepcopy(state.world), state.let_in)
        if ("EvaluationRun", name) not in world.objects:
            return state, False
        world.writes.clear()
        crashed = False
        if fault:
            setattr(world, fault, number)
        try:
            asyncio.run(self._step(RunKey("team", name)))
        except Crashed:
            crashed = True
        except (Again, ApiError):
            pass
        world.crash_after = world.lose_after = None
        left = frozenset() if crashed else frozenset(self._fleet.gate._line._admitted)
        struck = bool(fault) and len(world.writes) >= number
        return State(world, left, state.acts, state.faults + bool(fault)), struck

    async def _step(self, key: RunKey) -> None:
        """A look, and those that it wants at once: the plan is read first after each start."""
        for _ in range(3):
            if await self._fleet.controller.step(key) != 0.0:
                return

    def _take(self, world: World, let_in: Collection[str]) -> World:
        """Have the operator in this world, as it would be if it had not been started anew."""
        self._fleet.world = world
        self._fleet.restart()
        for kind in KINDS:
            self._fleet.store.replace(kind, world.all(kind), world.version)
        self._fleet.gate._line._admitted.update(let_in)
        return world

    def _comes_to_an_end(self, state: State) -> None:
        """From here all runs get their turn, if nothing goes wrong any more."""
        fleet, world = self._fleet, copy.deepcopy(state.world)
        self._take(world, ())
        for name in fleet.names():
            if fleet.run(name)["spec"].get("suspend"):
                fleet.edit(name, suspend=False)
        fleet.resync()
        fleet.until(fleet.all_ended)
        assert set(fleet.phases()) <= {"Succeeded"}


@pytest.mark.parametrize(("script", "faults"), SCRIPTS.values(), ids=SCRIPTS.keys())
def test_never_are_more_at_work_than_the_cap_allows_and_all_get_their_turn(
    script: tuple[Act, ...], faults: int
) -> None:
    exploration = Exploration(script, faults)
    exploration.run()
    assert exploration.exceeded is None
    assert exploration.states > 50


def _let_all_in(gate: Gate, uid: str) -> None:
    return None


MUTANTS = {
    "lets everybody in": (Gate, "ask", _let_all_in),
    "frees the place of a run whose Job is still ending": (standing, "is_finished", lambda job: 1),
    "takes a run that waits anew for one at work": (standing, "waits_in_line", lambda status: 0),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_rule_that_is_wrong_is_noticed(mutant: tuple[Any, str, Any]) -> None:
    exploration = Exploration(STOPS_FIRST, faults=0)
    with mock.patch.object(*mutant):
        exploration.run()
    assert exploration.exceeded is not None
