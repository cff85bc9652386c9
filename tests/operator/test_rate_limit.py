"""The limit of requests to an API server that says 429, against models of such a server."""

from __future__ import annotations

from itertools import pairwise

import pytest

from evalrun_operator.rate_limit import FALL, FORGET_SECONDS, LEAST, RateLimit

pytestmark = pytest.mark.decisions


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Takes so many requests in each second, and refuses the rest."""

    def __init__(self, clock: Clock, limit: RateLimit, most: int) -> None:
        self._clock = clock
        self._limit = limit
        self.most = most
        self._recent: list[float] = []
        self.taken = 0
        self.refused = 0

    def ask(self) -> None:
        """One request, in its turn."""
        self._clock.now += self._limit.reserve()
        now = self._clock.now
        self._recent = [at for at in self._recent if at > now - 1]
        if len(self._recent) < self.most:
            self._recent.append(now)
            self._limit.taken()
            self.taken += 1
        else:
            self._limit.refused(now)
            self.refused += 1
        self._clock.now += 0.002  # at most 500 a second are sent


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> RateLimit:
    return RateLimit(clock)


def test_without_a_429_nothing_ever_waits(clock: Clock, limit: RateLimit) -> None:
    for _ in range(10_000):
        assert limit.reserve() == 0.0
        limit.taken()
        clock.now += 0.0001
    assert limit.per_second is None


def test_a_429_slows_all_down_below_what_went_through(clock: Clock, limit: RateLimit) -> None:
    for _ in range(100):
        limit.taken()
        clock.now += 0.01
    limit.refused(clock.now)
    assert limit.per_second == pytest.approx(100 * FALL, rel=0.05)
    turns = [limit.reserve() for _ in range(8)]
    steps = [after - before for before, after in pairwise(turns)]
    assert steps == pytest.approx([1 / (100 * FALL)] * 7, rel=0.05)


def test_the_other_429s_of_one_burst_say_nothing_new(clock: Clock, limit: RateLimit) -> None:
    for _ in range(100):
        limit.taken()
    sent_at = clock.now
    clock.now += 0.1
    limit.refused(sent_at)
    after = limit.per_second
    for _ in range(50):
        limit.refused(sent_at)
    assert limit.per_second == after
    clock.now += 1.5
    limit.refused(clock.now)
    assert (limit.per_second or 0) < (after or 0)


def test_however_often_it_says_429_some_requests_are_sent(clock: Clock, limit: RateLimit) -> None:
    for _ in range(100):
        limit.refused(clock.now)
        clock.now += 0.2
    assert LEAST <= (limit.per_second or 0) < LEAST * 1.3
    assert limit.reserve() <= 1 / LEAST + 0.01


def test_a_limit_is_forgotten_in_time(clock: Clock, limit: RateLimit) -> None:
    limit.refused(clock.now)
    clock.now += 10
    assert 2 * LEAST < (limit.per_second or 0) < 3 * LEAST
    clock.now += FORGET_SECONDS
    assert limit.per_second is None
    assert limit.reserve() == 0.0


@pytest.mark.parametrize("most", [5, 20, 100])
def test_what_a_server_allows_is_used_with_few_refusals(
    clock: Clock, limit: RateLimit, most: int
) -> None:
    server = Server(clock, limit, most)
    begun = clock.now
    while clock.now < begun + 60:
        server.ask()
    seconds = clock.now - begun
    assert server.taken / seconds > 0.75 * most
    assert server.refused < 0.1 * server.taken + 10


def test_a_server_that_recovers_is_used_again_within_half_a_minute(
    clock: Clock, limit: RateLimit
) -> None:
    server = Server(clock, limit, 10)
    begun = clock.now
    while clock.now < begun + 30:
        server.ask()
    server.most = 1000
    begun, before = clock.now, server.taken
    while clock.now < begun + 30:
        server.ask()
    begun, before = clock.now, server.taken
    while clock.now < begun + 5:
        server.ask()
    assert (server.taken - before) / 5 > 100
