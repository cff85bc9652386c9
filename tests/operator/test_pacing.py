"""Progress is written once an interval, and the first at once."""

from __future__ import annotations

import pytest

from evalrun_operator import pacing
from evalrun_operator.pacing import Pacing

pytestmark = pytest.mark.decisions


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_is_free_and_silence_buys_no_second() -> None:
    clock = Clock()
    paced = Pacing(30, clock)
    assert paced.wait("a") == 0
    clock.now = 3600
    paced.written("a")
    assert paced.wait("a") == 30
    clock.now += 29
    assert paced.wait("a") == 1
    assert paced.wait("b") == 0


def test_runs_that_were_never_ended_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "CROWD", 10)
    clock = Clock()
    paced = Pacing(30, clock)
    for number in range(100):
        clock.now += 10
        paced.written(str(number))
    assert len(paced._next) <= 11
