"""The queue hands each run to one worker at a time, when it is due."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from evalrun_operator.decisions import RunKey
from evalrun_operator.work_queue import (
    LONGEST_ASKED,
    LONGEST_DELAY,
    SPARE_ENTRIES,
    QueueClosed,
    WorkQueue,
)

pytestmark = pytest.mark.decisions

A, B = RunKey("team", "a"), RunKey("team", "b")


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 5))


def new_queue() -> WorkQueue:
    return WorkQueue(asyncio.get_running_loop().time, lambda: 0.99)


async def nothing_to_get(queue: WorkQueue, seconds: float = 0.02) -> bool:
    try:
        await asyncio.wait_for(queue.get(), seconds)
    except TimeoutError:
        return True
    return False


def test_a_key_added_twice_is_handed_out_once() -> None:
    async def scene() -> None:
        queue = new_queue()
        queue.add(A)
        queue.add(A)
        assert await queue.get() == A
        queue.done(A)
        assert await nothing_to_get(queue)

    play(scene())


def test_a_key_in_hand_waits_for_its_worker() -> None:
    async def scene() -> None:
        queue = new_queue()
        queue.add(A)
        assert await queue.get() == A
        queue.add(A)
        assert await nothing_to_get(queue)
        queue.done(A)
        assert await queue.get() == A

    play(scene())


def test_the_earliest_time_counts() -> None:
    async def scene() -> None:
        queue = new_queue()
        queue.add(A, after=60)
        queue.add(A, after=0.01)
        queue.add(A, after=30)
        assert queue.depth == 0
        assert await queue.get() == A
        queue.done(A)
        assert await nothing_to_get(queue)

    play(scene())


def test_a_sooner_key_overtakes_one_that_is_waited_for() -> None:
    async def scene() -> None:
        queue = new_queue()
        queue.add(A, after=0.2)
        getting = asyncio.create_task(queue.get())
        await asyncio.sleep(0.01)
        queue.add(B)
        assert await getting == B

    play(scene())


def test_failures_wait_longer_each_time_up_to_a_bound() -> None:
    async def scene() -> None:
        queue = new_queue()
        delays = []
        for _ in range(14):
            queue.add(A)
            queue._due[A] = 0.0  # as if its time had come
            queue._heap = [(0.0, 0, A)]
            assert await queue.get() == A
            delays.append(queue.failed(A))
        assert delays == sorted(delays)
        assert delays[0] < 1
        assert LONGEST_DELAY / 2 < delays[-1] <= LONGEST_DELAY

    play(scene())


def test_success_forgets_the_failures() -> None:
    async def scene() -> None:
        queue = new_queue()
        queue.add(A)
        await queue.get()
        first = queue.failed(A)
        assert await queue.get() == A
        queue.done(A)
        queue.add(A)
        await queue.get()
        assert queue.failed(A) == first

    play(scene())


def test_what_the_server_asked_for_is_waited() -> None:
    async def scene() -> None:
        queue = new_queue()
        queue.add(A)
        await queue.get()
        assert queue.failed(A, at_least=7.0) == 7.0

    play(scene())


def test_what_the_server_asks_for_is_bounded() -> None:
    async def scene() -> None:
        queue = new_queue()
        queue.add(A)
        await queue.get()
        assert queue.failed(A, at_least=1e9) == LONGEST_ASKED

    play(scene())


def test_entries_that_were_overtaken_do_not_pile_up() -> None:
    async def scene() -> None:
        queue = new_queue()
        queue.add(B, after=0.01)
        for number in range(10_000):
            queue.add(A, after=20_000 - number)
        assert len(queue._heap) < 2 * SPARE_ENTRIES
        assert await queue.get() == B
        queue.add(A)
        assert await queue.get() == A

    play(scene())


def test_many_workers_share_the_work_and_never_a_key() -> None:
    async def scene() -> None:
        queue = new_queue()
        keys = [RunKey("team", str(number)) for number in range(200)]
        at_work: set[RunKey] = set()
        looked: Counter[RunKey] = Counter()

        async def work() -> None:
            while True:
                try:
                    key = await queue.get()
                except QueueClosed:
                    return
                assert key not in at_work
                at_work.add(key)
                await asyncio.sleep(0)
                looked[key] += 1
                at_work.discard(key)
                queue.done(key)

        workers = [asyncio.create_task(work()) for _ in range(8)]
        for turn in range(3):
            for key in keys:
                queue.add(key, after=0.005 * turn)
            await asyncio.sleep(0.02)
        queue.close()
        await asyncio.gather(*workers)
        assert set(looked) == set(keys)

    play(scene())


def test_a_cancelled_worker_loses_no_wake_up() -> None:
    async def scene() -> None:
        queue = new_queue()
        first = asyncio.create_task(queue.get())
        second = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add(A)  # wakes the first, which is cancelled before it can take it
        first.cancel()
        assert await second == A

    play(scene())


def test_closing_ends_all_waiting() -> None:
    async def scene() -> None:
        queue = new_queue()
        waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, QueueClosed) for outcome in outcomes)
        queue.add(A)
        with pytest.raises(QueueClosed):
            await queue.get()

    play(scene())


def test_it_is_crowded_while_a_key_is_due_and_no_worker_is_free() -> None:
    async def scene() -> None:
        queue = new_queue()
        assert not queue.is_crowded
        queue.add(A)
        queue.add(B, after=60)
        assert queue.is_crowded
        assert await queue.get() == A
        assert not queue.is_crowded
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add(B)
        assert await waiting == B
        assert not queue.is_crowded

    play(scene())


def test_a_long_queue_that_moves_does_not_stand_still() -> None:
    async def scene() -> None:
        now = 0.0
        queue = WorkQueue(lambda: now, lambda: 0.5)
        for number in range(10):
            queue.add(RunKey("team", str(number)))
        for _ in range(9):
            now += 100
            assert queue.longest_wait() == 100
            queue.done(await queue.get())
        now += 400
        assert queue.longest_wait() == 400
        queue.done(await queue.get())
        assert queue.longest_wait() == 0

    play(scene())
