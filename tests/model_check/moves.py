"""Where a state may lead: each step that may follow, and each fault that may strike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from evalrun_operator.strip import KINDS, Kind
from model_check import events, properties
from model_check.cluster import RUN, Cluster
from model_check.looks import Operator
from model_check.properties import Violation
from model_check.scenarios import CONFIG, DELAY, Scenario
from model_check.server import Fault, Look
from model_check.states import Draft, State, States, new_memory


@dataclass
class Step:
    """A transition.

    fault: its class; None for what happens anyway. wrote: whether the operator wrote anything.
    """

    label: str
    after: State
    fault: str | None = None
    cost: int = 0
    wrote: bool = False


class Found(Exception):  # noqa: N818
    """A step that breaks a property."""

    def __init__(self, label: str, violation: Violation) -> None:
        super().__init__(str(violation))
        self.label = label
        self.violation = violation


class Moves:
    """All steps from a state."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.states = States()
        self.operator = Operator(CONFIG)

    def first(self) -> State:
        return self.states.begin(self.scenario.begin())

    def free(self, state: State) -> Iterator[Step]:
        """What may happen anyway, in the order in which it does when all goes well."""
        if state.view is None:
            yield self._made(state, "the operator starts", start)
        for kind, cache in zip(KINDS, state.caches, strict=True):
            if cache is not None:
                yield self._made(state, f"the cache of {kind}s catches up", _catch_up(kind))
        if state.view is not None:
            yield self.look(state)[1]
        cluster = self.states.cluster(state)
        for label, doing in cluster.steps():
            yield self._acted(state, label, doing)

    def others(self, state: State) -> Iterator[Step]:
        """What a person does, and a quota that is lifted."""
        act = self._next_act(state)
        if act is not None:
            label, doing = act
            yield self._made(state, label, _by_a_person(doing))
        for kind in sorted(state.quota):
            yield self._made(state, f"the quota of {kind}s is lifted", _quota(kind, False))

    def faulty(self, state: State, most: int) -> Iterator[Step]:
        """What may go wrong, at a cost of no more than `most`."""
        if most < 1:
            return
        cluster = self.states.cluster(state)
        if state.view is not None:
            yield self._made(state, "the operator crashes", crash, "crash")
            yield from self._disturbed_looks(state)
        for kind in ("Job", "Pod"):
            if kind not in state.quota:
                label = f"a quota forbids {kind}s"
                yield self._made(state, label, _quota(kind, True), "refused")
        yield Step(f"{DELAY} s pass", self.states.aged(state, DELAY), "delay", 1)
        late: list[tuple[str, str | None, Any]] = [
            (label, None, _acting(doing)) for label, doing in cluster.steps()
        ]
        act = self._next_act(state)
        if act is not None:
            late.append((act[0], None, _by_a_person(act[1])))
        for fault, label, doing in cluster.mishaps(self.scenario.nodes_die):
            yield self._made(state, label, _acting(doing), fault)
            if most > 1:
                late.append((label, fault, _acting(doing)))
        for label, fault_or_none, change in late:
            yield from self._late(state, label, change, fault_or_none)

    def look(
        self, state: State, fault: Fault | None = None, *, holds: bool | None = None
    ) -> tuple[Look, Step]:
        """The operator looks. holds: back what can wait; if None, as the scenario has it."""
        draft, found = self.states.thaw(state), Look()
        holds = self.scenario.paced if holds is None else holds
        try:
            key = (state.view, state.notes)
            self.operator.look(draft, key, found, fault=fault, holds=holds)
        except Violation as violation:
            raise Found(str(found), violation) from violation
        except Exception as error:
            raise Found(str(found), Violation(properties.DEFECT, repr(error))) from error
        return found, Step(str(found), self.states.freeze(draft), wrote=found.wrote)

    def _disturbed_looks(self, state: State) -> Iterator[Step]:
        """A look, and one fault at any of its requests."""
        plain, step = self.look(state)
        after = self.states.cluster(step.after)
        between = list(after.steps())
        act = self._next_act(state)
        for at, call in enumerate(plain.calls):
            kinds = ["no reply"]
            if call.verb != "get":
                kinds += ["crash", "lost reply", "refused"]
            if call.verb in ("write status of", "delete"):
                kinds.append("conflict")
            for kind in kinds:
                yield self._struck(state, Fault(at, kind), kind)
            for label, doing in between:
                fault = Fault(at, "between", _if_possible(doing))
                yield self._struck(state, fault, f"first {label}")
            if act is not None:
                yield self._struck(state, Fault(at, "between", act[1]), f"first {act[0]}", acts=1)
        if plain.wrote:
            key, holds = (state.view, state.notes), self.scenario.paced

            def again(draft: Draft) -> None:
                self.operator.look(draft, key, Look(), holds=holds)

            yield from self._late(state, step.label, again, None)

    def _struck(self, state: State, fault: Fault, words: str, acts: int = 0) -> Step:
        _, step = self.look(state, fault)
        after = step.after._replace(acts=step.after.acts + acts)
        return Step(f"{step.label}; at request {fault.at + 1}: {words}", after, fault.kind, 1)

    def _late(
        self, state: State, label: str, change: Callable[[Draft], None], fault: str | None
    ) -> Iterator[Step]:
        """The same, when a watch cache does not learn of it for now."""
        cost = 1 if fault is None else 2
        for position, kind in enumerate(KINDS):
            if state.caches[position] is not None:
                continue
            draft = self.states.thaw(state)
            before = [doc for (k, _), doc in draft.cluster.objects.items() if k == kind]
            of = self.states.documents.of
            draft.caches[kind] = tuple(of(kind, doc) for doc in before)
            self._change(label, draft, change)
            after = [doc for (k, _), doc in draft.cluster.objects.items() if k == kind]
            if [id(doc) for doc in before] != [id(doc) for doc in after]:
                words = f"{label}; the cache of {kind}s is late"
                yield Step(words, self.states.freeze(draft), fault or "stale", cost)

    def _next_act(self, state: State) -> tuple[str, Callable[[Cluster], None]] | None:
        acts = self.scenario.acts
        if state.acts >= len(acts):
            return None
        run = self.states.cluster(state).objects.get(RUN)
        if run is None or run["metadata"].get("deletionTimestamp"):
            return None
        return acts[state.acts]

    def _acted(self, state: State, label: str, doing: Callable[[Cluster], None]) -> Step:
        draft = self.states.thaw(state)
        try:
            changed = events.act(draft, doing)
        except Violation as violation:
            raise Found(label, violation) from violation
        return Step(label, self.states.freeze(draft) if changed else state)

    def _made(
        self, state: State, label: str, change: Callable[[Draft], None], fault: str | None = None
    ) -> Step:
        draft = self.states.thaw(state)
        self._change(label, draft, change)
        return Step(label, self.states.freeze(draft), fault, 0 if fault is None else 1)

    @staticmethod
    def _change(label: str, draft: Draft, change: Callable[[Draft], None]) -> None:
        try:
            change(draft)
        except Violation as violation:
            raise Found(label, violation) from violation


def start(draft: Draft) -> None:
    """The operator's process begins, and reads all there is, as far as the caches know it."""
    draft.memory = new_memory()
    for kind in KINDS:
        cache = draft.caches[kind]
        if cache is None:
            found = [doc for (k, _), doc in draft.cluster.objects.items() if k == kind]
        else:
            found = [entry.doc for entry in cache]
        events.relist(draft.memory, kind, found)


def crash(draft: Draft) -> None:
    draft.memory = None


def _catch_up(kind: Kind) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        draft.caches[kind] = None
        if draft.memory is not None:
            found = [doc for (k, _), doc in draft.cluster.objects.items() if k == kind]
            draft.memory.replace(kind, found, 10 * draft.cluster.version)

    return change


def _acting(doing: Callable[[Cluster], None]) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        events.act(draft, doing)

    return change


def _by_a_person(doing: Callable[[Cluster], None]) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        draft.acts += 1
        events.act(draft, doing)

    return change


def _quota(kind: str, forbids: bool) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        cluster = draft.cluster
        if kind == "Pod":
            cluster.refuse_pods = forbids
        elif forbids:
            cluster.forbidden.add(kind)
        else:
            cluster.forbidden.discard(kind)
        cluster.befall(2)

    return change


def _if_possible(doing: Callable[[Cluster], None]) -> Callable[[Cluster], None]:
    """Of what may be there only later in the look."""

    def change(cluster: Cluster) -> None:
        try:
            doing(cluster)
        except KeyError:
            return

    return change
