"""Who may begin under the caps, and who waits where."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalrun_api.operator_config import Caps
from evalrun_operator.line import Line, Order, Standing, ordinal

pytestmark = pytest.mark.decisions


def caps(runs: int | None = None, pods: int | None = None, **namespaces: int | None) -> Caps:
    document: dict[str, Any] = {"maxActiveRuns": runs, "maxPendingPods": pods}
    document["namespaces"] = {name: {"maxActiveRuns": cap} for name, cap in namespaces.items()}
    return Caps.model_validate(document)


def waiting(uid: str, namespace: str = "a", created: int = 0, pods: int = 1) -> Standing:
    return Standing(namespace, Order(f"{created:05d}", uid, uid), at_work=False, pods=pods)


def at_work(uid: str, namespace: str = "a", pods: int = 0) -> Standing:
    return Standing(namespace, Order("00000", uid, uid), at_work=True, pods=pods)


def lined(limits: Caps, *standings: Standing) -> Line:
    line = Line(limits)
    for standing in standings:
        line.put(standing.order.uid, standing)
    return line


def test_runs_begin_in_the_order_in_which_they_were_created_up_to_the_cap() -> None:
    line = lined(caps(2), waiting("z", created=1), waiting("y", created=3), waiting("x", created=2))
    assert line.admit() == ["z", "x"]
    assert line.admit() == []
    assert str(line.place("y")) == "1st in line: namespace a may have 2 runs at work and has 2"


def test_runs_of_the_same_second_begin_by_name() -> None:
    assert lined(caps(1), waiting("b"), waiting("a")).admit() == ["a"]


def test_a_run_that_was_let_in_counts_before_its_job_is_seen_and_once_after() -> None:
    line = lined(caps(1), waiting("first"), waiting("second"))
    assert line.admit() == ["first"]
    line.put("first", waiting("first", pods=2))  # an edit, or its status: still no Job
    assert line.admit() == []
    line.put("first", at_work("first", pods=1))
    assert line.admit() == []
    assert (line.at_work("a"), line.pending) == (1, 1)
    line.put("first", None)
    assert line.admit() == ["second"]


def test_a_run_that_was_let_in_keeps_its_turn_though_an_older_one_comes() -> None:
    line = lined(caps(1), waiting("young", created=2))
    assert line.admit() == ["young"]
    line.put("old", waiting("old", created=1))
    assert line.admit() == []
    assert line.place("old") is not None
    line.put("young", at_work("young"))
    assert line.admit() == []


def test_what_goes_makes_room_for_exactly_as_many() -> None:
    line = lined(caps(3), *(waiting(f"{n:02d}") for n in range(10)))
    assert line.admit() == ["00", "01", "02"]
    line.put("01", None)
    assert line.admit() == ["03"]
    line.put("05", None)  # deleted while it waits
    assert line.admit() == []
    assert [line.place(uid).position for uid in ("04", "06", "09")] == [1, 2, 5]  # type: ignore[union-attr]


def test_each_is_named_once_when_it_becomes_the_next() -> None:
    line = lined(caps(1), *(waiting(f"{n}") for n in range(4)), waiting("b", "b"))
    assert line.admit() == ["0", "b"]
    assert line.new_heads() == ["1"]
    line.put("2", None)
    line.admit()
    assert line.new_heads() == []
    line.put("0", None)
    assert line.admit() == ["1"]
    assert line.new_heads() == ["3"]


def test_a_namespace_may_have_a_cap_of_its_own_or_none() -> None:
    found = [waiting(f"{namespace}{n}", namespace) for namespace in "abc" for n in range(4)]
    line = lined(caps(1, a=2, b=None), *found)
    assert Counter(uid[0] for uid in line.admit()) == {"a": 2, "b": 4, "c": 1}


def test_the_namespace_with_the_fewest_at_work_comes_first() -> None:
    crowd = [waiting(f"a{n:04d}", "a", created=n) for n in range(1000)]
    line = lined(caps(pods=4), *crowd)
    assert line.admit() == ["a0000", "a0001", "a0002", "a0003"]
    line.put("b", waiting("b", "b", created=5000))
    assert line.admit() == []
    line.put("a0000", at_work("a0000", "a", pods=0))
    assert line.admit() == ["b"]


def test_namespaces_take_turns() -> None:
    found = [waiting(f"{namespace}{n}", namespace, n) for namespace in "abc" for n in range(9)]
    line = lined(caps(pods=7), *found)
    assert line.admit() == ["a0", "b0", "c0", "a1", "b1", "c1", "a2"]


def test_a_large_run_is_not_overtaken_by_small_ones() -> None:
    line = lined(caps(pods=4), at_work("w", "z", pods=2), waiting("large", created=1, pods=4))
    line.put("small", waiting("small", "b", created=2, pods=1))
    assert line.admit() == []
    why = "1st in line: 4 pods may wait for their start and 2 do, this run would add"
    assert str(line.place("large")) == f"{why} 4 more"
    assert str(line.place("small")) == f"{why} 1 more"
    line.put("w", at_work("w", "z", pods=0))
    assert line.admit() == ["large"]


def test_a_run_larger_than_the_cap_begins_where_nothing_is_pending() -> None:
    line = lined(caps(pods=4), at_work("w", "z", pods=1), waiting("huge", pods=50))
    assert line.admit() == []
    line.put("w", at_work("w", "z", pods=0))
    assert line.admit() == ["huge"]


def test_a_run_whose_pods_wait_in_kueue_is_not_held_back_by_pods() -> None:
    line = lined(caps(pods=1), at_work("w", "z", pods=3), waiting("large", "b", pods=2))
    line.put("queued", waiting("queued", "c", created=9, pods=0))
    assert line.admit() == ["queued"]


def test_a_run_that_was_set_aside_holds_nobody_back_and_comes_back_to_its_place() -> None:
    line = lined(caps(1), waiting("first", created=1), waiting("second", created=2))
    assert line.admit() == ["first"]
    line.set_aside("first")
    assert line.place("first") is None
    assert line.admit() == ["second"]
    line.put("third", waiting("third", created=3))
    assert line.call_back("first")
    assert line.admit() == []
    assert [line.place(uid).position for uid in ("first", "third")] == [1, 2]  # type: ignore[union-attr]


def test_a_cap_that_was_lowered_stops_nobody() -> None:
    line = lined(caps(1), at_work("x"), at_work("y"), waiting("z"))
    assert line.admit() == []
    assert str(line.place("z")) == "1st in line: namespace a may have 1 run at work and has 2"
    line.put("x", None)
    assert line.admit() == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        *((1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th")),
        *((13, "13th"), (21, "21st"), (102, "102nd"), (111, "111th"), (1003, "1003rd")),
    ],
)
def test_places_are_said_as_people_say_them(number: int, words: str) -> None:
    assert ordinal(number) == words


# Whatever happens


class Naive:
    """The same rules without a thought for speed, over plain data."""

    def __init__(self, limits: Caps) -> None:
        self.limits = limits
        self.known: dict[str, Standing] = {}
        self.admitted: set[str] = set()
        self.aside: set[str] = set()

    def counted(self) -> list[Standing]:
        return [s for uid, s in self.known.items() if s.at_work or uid in self.admitted]

    def line(self, namespace: str) -> list[Standing]:
        out = self.admitted | self.aside
        found = [s for uid, s in self.known.items() if not s.at_work and uid not in out]
        return sorted((s for s in found if s.namespace == namespace), key=lambda s: s.order)

    def limit(self, namespace: str) -> float:
        own = self.limits.namespaces.get(namespace)
        cap = own.max_active_runs if own else self.limits.max_active_runs
        return float("inf") if cap is None else cap

    def admit(self) -> list[str]:
        found = []
        while (uid := self._next()) is not None:
            self.admitted.add(uid)
            found.append(uid)
        return found

    def _next(self) -> str | None:
        active = Counter(s.namespace for s in self.counted())
        pending = sum(s.pods for s in self.counted())
        heads = [line[0] for n in "abc" if active[n] < self.limit(n) and (line := self.line(n))]
        cap = self.limits.max_pending_pods
        blocked = False
        for head in sorted(heads, key=lambda s: (active[s.namespace], s.order)):
            fits = cap is None or pending == 0 or pending + head.pods <= cap
            if head.pods == 0 or (fits and not blocked):
                return head.order.uid
            blocked = True
        return None


names = st.sampled_from([f"{namespace}{n}" for namespace in "abc" for n in range(6)])
limits = st.builds(
    caps,
    st.sampled_from([None, 1, 2, 3]),
    st.sampled_from([None, 1, 3, 6]),
    b=st.sampled_from([None, 1, 2]),
)
moves = st.one_of(
    st.tuples(st.just("arrives"), names, st.integers(0, 4)),
    st.tuples(st.just("begins"), names, st.integers(0, 4)),
    st.tuples(st.just("runs"), names, st.just(0)),
    st.tuples(st.just("ends"), names, st.just(0)),
    st.tuples(st.just("is set aside"), names, st.just(0)),
    st.tuples(st.just("is called back"), names, st.just(0)),
)


def move(line: Line | Naive, what: str, uid: str, pods: int, created: int) -> None:
    """The same move in either; what cannot happen to the run does not."""
    known = line._standings if isinstance(line, Line) else line.known
    admitted = line._admitted if isinstance(line, Line) else line.admitted
    before = known.get(uid)
    standing: Standing | None = None
    if what == "arrives" and before is None:
        standing = waiting(uid, uid[0], created, pods)
    elif what == "begins" and before is not None and uid in admitted:
        standing = Standing(before.namespace, before.order, True, before.pods)
    elif what == "runs" and before is not None and before.at_work:
        standing = Standing(before.namespace, before.order, True, 0)
    elif what != "ends" or before is None:
        if what.startswith("is ") and before is not None and not before.at_work:
            _aside(line, what, uid)
        return
    if isinstance(line, Line):
        line.put(uid, standing)
    elif standing is None:
        line.known.pop(uid)
        line.admitted.discard(uid)
        line.aside.discard(uid)
    else:
        line.known[uid] = standing
        if standing.at_work:
            line.admitted.discard(uid)


def _aside(line: Line | Naive, what: str, uid: str) -> None:
    if isinstance(line, Line):
        if what == "is set aside":
            line.set_aside(uid)
        else:
            line.call_back(uid)
    elif what == "is set aside":
        line.admitted.discard(uid)
        line.aside.add(uid)
    else:
        line.aside.discard(uid)


@given(limits=limits, script=st.lists(moves, max_size=60))
@settings(max_examples=300, deadline=None)
def test_the_line_does_what_the_rules_say_and_no_cap_is_exceeded(
    limits: Caps, script: list[tuple[str, str, int]]
) -> None:
    line, naive = Line(limits), Naive(limits)
    for created, (what, uid, pods) in enumerate(script):
        for either in (line, naive):
            move(either, what, uid, pods, created)
        assert line.admit() == naive.admit()
        assert line.admit() == []
        active = Counter(s.namespace for s in naive.counted())
        assert all(count <= naive.limit(namespace) for namespace, count in active.items())
        pending = sum(s.pods for s in naive.counted())
        large = max((s.pods for s in naive.counted()), default=0)
        assert pending <= max(limits.max_pending_pods or pending, large)
        for namespace in "abc":
            assert line.at_work(namespace) == active[namespace]
            places = [line.place(s.order.uid) for s in naive.line(namespace)]
            assert [p and p.position for p in places] == list(range(1, len(places) + 1))
        assert line.pending == pending
        assert len(line) == sum(len(naive.line(namespace)) for namespace in "abc")


@given(
    limits=limits,
    runs=st.dictionaries(names, st.integers(0, 8), min_size=1),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_everybody_begins_in_the_order_of_the_places_and_nobody_is_left_behind(
    limits: Caps, runs: dict[str, int], order: Any
) -> None:
    line = Line(limits)
    for created, (uid, pods) in enumerate(runs.items()):
        line.put(uid, waiting(uid, uid[0], created, pods))
    begun = line.admit()
    told = {uid: place.position for uid in runs if (place := line.place(uid)) is not None}
    going = list(begun)
    while going:
        uid = going.pop(order.randrange(len(going)))
        line.put(uid, Standing(uid[0], Order("", uid, uid), at_work=True, pods=0))  # its pods run
        found = line.admit()
        line.put(uid, None)  # it ends
        found += line.admit()
        begun += found
        going += found
    assert sorted(begun) == sorted(runs)
    after: defaultdict[str, list[int]] = defaultdict(list)
    for uid in begun:
        if uid in told:
            after[uid[0]].append(told[uid])
    assert all(places == sorted(places) for places in after.values())
