"""Progress is written once an interval, and two at once after silence."""

from __future__ import annotations

import pytest

from evalrun_operator import pacing
from evalrun_operator.pacing import Pacing

pytestmark = pytest.mark.decisions


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_two_are_in_hand_and_silence_buys_no_more() -> None:
    clock = Clock()
    paced = Pacing(30, clock)
    assert paced.wait("a", is_progress=True) == 0
    paced.written("a", is_progress=True)
    clock.now = 3600
    paced.written("a", is_progress=True)
    assert paced.wait("a", is_progress=True) == 0
    paced.written("a", is_progress=True)
    assert paced.wait("a", is_progress=True) == 30
    clock.now += 29
    assert paced.wait("a", is_progress=True) == 1
    assert paced.wait("b", is_progress=True) == 0


def test_the_last_one_in_hand_is_kept_for_progress() -> None:
    clock = Clock()
    paced = Pacing(30, clock)
    assert paced.wait("a", is_progress=False) == 0
    paced.written("a", is_progress=False)
    assert paced.wait("a", is_progress=False) == 30
    assert paced.wait("a", is_progress=True) == 0


def test_the_first_progress_is_told_at_once_and_paid_for_in_the_first_minute() -> None:
    clock = Clock()
    paced = Pacing(30, clock)
    paced.written("a", is_progress=False)
    at = []
    while clock.now < 150:
        clock.now += 1
        if paced.wait("a", is_progress=True) == 0:
            paced.written("a", is_progress=True)
            at.append(clock.now)
    assert at == [1, 60, 90, 120, 150]


def test_an_hour_holds_two_a_minute_and_one() -> None:
    clock = Clock()
    paced = Pacing(30, clock)
    paced.written("a", is_progress=False)
    writes = 1
    while clock.now < 3600:
        if paced.wait("a", is_progress=True) == 0:
            paced.written("a", is_progress=True)
            writes += 1
        clock.now += 1
    assert writes <= 2 * 60 + 1


def test_who_has_stumbled_often_is_silent_for_two_minutes_at_most() -> None:
    clock = Clock()
    paced = Pacing(30, clock)
    for _ in range(100):
        paced.written("a", is_progress=False)
    assert paced.wait("a", is_progress=True) == 90
    assert paced.wait("a", is_progress=False) == 120


def test_runs_that_were_never_ended_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "CROWD", 10)
    clock = Clock()
    paced = Pacing(30, clock)
    for number in range(100):
        clock.now += 10
        paced.written(str(number), is_progress=False)
    assert len(paced._full_at) <= 11
