"""Pods' progress is read, whatever the pods answer."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from objects import job, pod, run

from evalrun_api.operator_config import ScrapeSettings
from evalrun_api.progress import MAX_BODY_BYTES, Progress, TaskProgress
from evalrun_operator import scrape
from evalrun_operator.decisions import Ledger, RunKey
from evalrun_operator.scrape import Scraper, Unusable, fetch
from evalrun_operator.store import Store

pytestmark = pytest.mark.decisions

KEY = RunKey("team", "one")
GOOD = Progress(step="answer", activity="answering", requests_done=3, requests_total=9)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def good(_: web.Request) -> web.StreamResponse:
    return web.json_response(text=GOOD.model_dump_json(by_alias=True))


async def dribble(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):
        for _ in range(600):
            await response.write(b" ")
            await asyncio.sleep(0.1)
    return response


async def elsewhere(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/other")


async def huge(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):
        for _ in range(64):
            await response.write(b" " * (MAX_BODY_BYTES // 16))
    return response


def answering(text: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(text=text)

    return answer


@asynccontextmanager
async def served(handler: Handler, host: str = "127.0.0.1", port: int = 0) -> Any:
    app = web.Application()
    app.router.add_get("/progress", handler)
    app.router.add_get("/other", good)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def ask(handler: Handler, host: str = "127.0.0.1") -> Progress:
    async def scene() -> Progress:
        async with served(handler, host) as port, aiohttp.ClientSession() as session:
            return await fetch(session, host, port)

    return asyncio.run(scene())


def test_progress_is_read() -> None:
    assert ask(good) == GOOD


def test_progress_is_read_over_ipv6() -> None:
    try:
        assert ask(good, "::1") == GOOD
    except OSError:
        pytest.skip("no IPv6 here")


@pytest.mark.parametrize(
    "handler",
    [
        elsewhere,
        huge,
        answering("[]"),
        answering("not json"),
        answering('{"version": 1, "step": "answer", "activity": "x", "requestsDone": "7"}'),
        answering('{"version": 1, "step": "answer", "activity": "x", "etaSeconds": NaN}'),
        answering('{"version": 1, "step": "answer", "activity": "x", "more": 1}'),
        answering("[" * 100_000),
    ],
)
def test_what_is_no_progress_is_unusable(handler: Handler) -> None:
    with pytest.raises(Unusable):
        ask(handler)


def test_the_longest_progress_that_a_runner_serves_is_read_and_of_it_what_is_used() -> None:
    tasks = [
        TaskProgress(name=f"{number}{'x' * 290}", requests_done=1, requests_total=2**53)
        for number in range(2000)
    ]
    changes = {"tasks": tasks, "elapsed_seconds": 3.5, "eta_seconds": 2.0, "computed": 3}
    long = GOOD.model_copy(update=changes)
    assert len(long.model_dump_json()) > 5 * MAX_BODY_BYTES
    assert len(long.body()) <= MAX_BODY_BYTES
    read = ask(answering(long.body().decode()))
    assert read == GOOD.model_copy(update={"tasks": tasks[:100]})


def test_an_address_is_an_address_and_no_url() -> None:
    async def scene() -> None:
        async with aiohttp.ClientSession() as session:
            await fetch(session, "evil.example/?", 80)

    with pytest.raises(ValueError, match="address"):
        asyncio.run(scene())


def store_with(*addresses: str) -> Store:
    store = Store(lambda pod: Ledger(), time.monotonic)
    store.put("EvaluationRun", run())
    store.put("Job", job())
    for number, address in enumerate(addresses):
        document = pod(f"pod-{number}", 10 + number)
        document["status"]["podIP"] = address
        store.put("Pod", document)
    return store


def test_one_that_never_ends_delays_no_other() -> None:
    async def scene() -> None:
        store = store_with("127.0.0.1", *["127.0.0.2"] * 3)
        changed: list[RunKey] = []
        failed: list[str] = []
        tried: list[int] = []
        async with served(good) as port, served(dribble, "127.0.0.2", port):
            scraper = Scraper(
                store,
                ScrapeSettings(interval_seconds=1, timeout_seconds=2, concurrency=4),
                changed=changed.append,
                tried=lambda: tried.append(1),
                failed=failed.append,
                random=lambda: 0.0,
                beat=lambda: None,
                port=port,
            )
            task = asyncio.create_task(scraper.run())
            began = time.monotonic()
            while not changed:
                await asyncio.sleep(0.01)
            assert time.monotonic() - began < 1.0
            while len(failed) < 3:
                await asyncio.sleep(0.05)
            assert set(failed) == {"timeout"}
            assert len(tried) > len(failed)  # the good ones are counted as well
            assert time.monotonic() - began < 6.0
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert changed == [KEY]
        observed = store.observe(KEY)
        assert observed is not None
        assert observed.progress == {"pod-0": GOOD}

    asyncio.run(asyncio.wait_for(scene(), 30))


async def sluggish(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(1.5)
    return await good(request)


@pytest.mark.parametrize("handler", [dribble, sluggish], ids=["silent", "slow"])
def test_a_hundred_that_answer_late_or_never_delay_those_alone(handler: Handler) -> None:
    async def scene() -> None:
        store = store_with(*["127.0.0.2"] * 100)
        read: list[float] = []

        async def answer(request: web.Request) -> web.StreamResponse:
            read.append(time.monotonic())
            return await good(request)

        async with served(answer) as port, served(handler, "127.0.0.2", port):
            scraper = Scraper(
                store,
                ScrapeSettings(interval_seconds=1, timeout_seconds=2, concurrency=16),
                changed=lambda key: None,
                tried=lambda: None,
                failed=lambda reason: None,
                random=lambda: 0.0,
                beat=lambda: None,
                port=port,
            )
            task = asyncio.create_task(scraper.run())
            await asyncio.sleep(5)  # for the hundred to be found slow
            late = pod("pod-late", 500)
            late["status"]["podIP"] = "127.0.0.1"
            store.put("Pod", late)
            began = time.monotonic()
            await asyncio.sleep(4.5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        gaps = [after - before for before, after in itertools.pairwise([began, *read])]
        assert len(read) >= 4
        assert max(gaps) < 1.6

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_many_pods_are_read_more_rarely_and_the_scraper_still_gives_signs_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scrape, "READINGS_A_SECOND", 10)
    monkeypatch.setattr(scrape, "BEAT_SECONDS", 0.5)
    asked: list[float] = []
    beats: list[float] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(time.monotonic())
        return await good(request)

    async def scene() -> None:
        async with served(answer) as port:
            scraper = Scraper(
                store_with(*["127.0.0.1"] * 30),
                ScrapeSettings(interval_seconds=1, timeout_seconds=2),
                changed=lambda key: None,
                tried=lambda: None,
                failed=lambda reason: None,
                random=lambda: 0.5,
                beat=lambda: beats.append(time.monotonic()),
                port=port,
            )
            task = asyncio.create_task(scraper.run())
            await asyncio.sleep(5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scene())
    assert 30 <= len(asked) <= 60
    assert max(after - before for before, after in itertools.pairwise(beats)) < 1.0


def test_of_pods_that_are_gone_nothing_is_remembered() -> None:
    async def scene() -> None:
        store = store_with("127.0.0.1", "127.0.0.1")
        scraper = Scraper(
            store,
            ScrapeSettings(),
            changed=lambda key: None,
            tried=lambda: None,
            failed=lambda reason: None,
            random=lambda: 0.0,
            beat=lambda: None,
            port=1,
        )
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(
                *(scraper._read(session, f"pod-{n}", "127.0.0.1", pod()) for n in (0, 1))
            )
            scraper._are_slow.add("pod-0")
            store.gone("Pod", "pod-0")
            store.gone("Pod", "pod-1")
            scraper._begin_round(session)
        assert [scraper._failures, scraper._skips, scraper._are_slow] == [{}, {}, set()]

    asyncio.run(scene())


def test_invalid_answers_and_restarted_workers_are_read_too() -> None:
    said = GOOD.model_copy(update={"errors": {"Empty": 2}, "restarts": 1})
    assert ask(answering(said.model_dump_json(by_alias=True))) == said


def test_only_running_pods_of_our_jobs_are_asked() -> None:
    store = store_with("127.0.0.1")
    store.put("Pod", pod("pending", 20, phase="Pending"))
    store.put("Pod", pod("stranger", 21, owner="job-of-someone"))
    ending = pod("ending", 22)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    store.put("Pod", ending)
    assert [p["metadata"]["uid"] for p in store.pods_at_work()] == ["pod-0"]
    store.put("EvaluationRun", run(version=30, completionTime="2026-01-01T00:00:00Z"))
    assert list(store.pods_at_work()) == []
