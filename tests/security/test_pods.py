"""A hostile pod: code that has taken over a run's pod, and says what it likes to the operator."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from attacks import POD, Gets, attack
from lives import GPU, Life, begin, reason_of
from objects import job, pod, run
from prometheus_client import CollectorRegistry, generate_latest
from world import Fate

from evalrun_api.operator_config import ScrapeSettings
from evalrun_api.plan import RunIdentity
from evalrun_api.progress import MAX_BODY_BYTES, Progress
from evalrun_api.termination import MAX_TERMINATION_BYTES, TerminationMessage
from evalrun_operator.decisions import Ledger, RunKey
from evalrun_operator.run_metrics import RunCollector
from evalrun_operator.scrape import Scraper, Unusable, fetch
from evalrun_operator.store import Store

pytestmark = pytest.mark.decisions

GOOD: dict[str, Any] = {"version": 1, "step": "answer", "activity": "answering"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler, host: str = "127.0.0.1", port: int = 0) -> Any:
    """A pod that answers so to everything; its port."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def saying(text: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(text=text)

    return answer


def ask(handler: Handler) -> Progress:
    async def scene() -> Progress:
        async with served(handler) as port, aiohttp.ClientSession() as session:
            return await fetch(session, "127.0.0.1", port)

    return asyncio.run(asyncio.wait_for(scene(), 20))


@attack(22, POD, "answers /progress with 64 MiB, to fill the operator's memory")
def test_a_giant_body_is_not_read(gets: Gets) -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            for _ in range(1024):
                await response.write(b"x" * 65536)
                sent += 65536
        return response

    with pytest.raises(Unusable, match="size"):
        ask(flood)
    assert sent < 16 << 20, "it was read on"
    gets(f"the connection is closed after {MAX_BODY_BYTES} bytes; it is told as a failed reading")


@attack(23, POD, "redirects the operator to the API server or to the cloud's metadata address")
@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:{port}/secret", "http://169.254.169.254/latest/meta-data/"]
)
def test_a_redirect_is_not_followed(gets: Gets, target: str) -> None:
    reached: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        reached.append(request.path)
        raise web.HTTPTemporaryRedirect(target.format(port=request.url.port))

    with pytest.raises(Unusable, match="status"):
        ask(elsewhere)
    assert reached == ["/progress"]
    gets("one request, to the pod itself")


@attack(24, POD, "reports NaN, Infinity, 1e999, negative and huge numbers, 100,000 levels of JSON")
@pytest.mark.parametrize(
    "text",
    [
        json.dumps({**GOOD, "requestsPerSecond": float("nan")}),
        json.dumps({**GOOD, "etaSeconds": float("inf")}),
        json.dumps(GOOD)[:-1] + ', "requestsPerSecond": 1e999}',
        json.dumps({**GOOD, "requestsDone": -1}),
        json.dumps({**GOOD, "requestsDone": 10**30}),
        json.dumps({**GOOD, "more": 1}),
        '{"version":1,"tasks":' + "[" * 100_000,
    ],
)
def test_numbers_that_are_none_are_not_taken(gets: Gets, text: str) -> None:
    with pytest.raises(Unusable, match="content"):
        ask(saying(text))
    gets("the reading is dropped whole; progress stays as it was")


def store_with(*addresses: str) -> Store:
    store = Store(lambda pod: Ledger(), time.monotonic)
    store.put("EvaluationRun", run())
    store.put("Job", job())
    for number, address in enumerate(addresses):
        document = pod(f"pod-{number}", 10 + number)
        document["status"]["podIP"] = address
        store.put("Pod", document)
    return store


async def scraped(
    store: Store, port: int, done: Callable[[list[str]], bool], seconds: float = 10
) -> list[str]:
    """Scrape until something holds, of which it is told why readings failed; these reasons."""
    failed: list[str] = []
    scraper = Scraper(
        store,
        ScrapeSettings(interval_seconds=1, timeout_seconds=2, concurrency=2),
        changed=lambda key: None,
        tried=lambda: None,
        failed=failed.append,
        random=lambda: 0.0,
        beat=lambda: None,
        port=port,
    )
    task = asyncio.create_task(scraper.run())
    try:
        async with asyncio.timeout(seconds):
            while not done(failed):
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return failed


@attack(25, POD, "sends a byte now and then for ever, so that no other pod is read (slow loris)")
def test_a_slow_loris_delays_itself_alone(gets: Gets) -> None:
    async def loris(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.05)
        return response

    def progress(store: Store) -> dict[str, Progress]:
        observed = store.observe(RunKey("team", "one"))
        return dict(observed.progress) if observed else {}

    async def scene() -> float:
        store = store_with(*["127.0.0.2"] * 8, "127.0.0.1")
        async with served(saying(json.dumps(GOOD))) as port, served(loris, "127.0.0.2", port):
            began = time.monotonic()
            await scraped(store, port, lambda failed: "pod-8" in progress(store))
            assert progress(store).keys() == {"pod-8"}
            return time.monotonic() - began

    seconds = asyncio.run(scene())
    assert seconds < 4
    gets(f"8 such pods; the ninth is read {seconds:.1f} s after the start")


@attack(26, POD, "puts quotes and line ends into names, to write metrics of its own")
def test_no_word_of_a_pod_becomes_a_label(gets: Gets) -> None:
    evil = 'x"} 1\nevil_metric{a="b'
    task = {"name": evil, "requestsDone": 1, "requestsTotal": 2}
    bad = json.dumps({**GOOD, "errors": {evil: 5}})
    odd = json.dumps({**GOOD, "activity": evil, "tasks": [task], "errors": {"Empty": 3}})

    async def scene(text: str) -> tuple[list[str], str]:
        store = store_with("127.0.0.1")
        registry = CollectorRegistry()
        registry.register(RunCollector(store, lambda: 0, lambda: 0))

        def is_over(failed: list[str]) -> bool:
            observed = store.observe(RunKey("team", "one"))
            return bool(failed or (observed and observed.progress))

        async with served(saying(text)) as port:
            failed = await scraped(store, port, is_over)
        return failed, generate_latest(registry).decode()

    failed, metrics = asyncio.run(scene(bad))
    assert failed == ["content"]
    assert "evil" not in metrics
    failed, metrics = asyncio.run(scene(odd))
    assert failed == []
    assert "evil" not in metrics
    assert 'evalrun_run_invalid_answers{error="Empty"' in metrics
    gets("a class that is no class drops the reading; names of tasks are in no metric")


def message(**fields: Any) -> TerminationMessage:
    return TerminationMessage(
        run=RunIdentity(namespace="team", name="trial", uid="uid-1"),
        step="score",
        outcome="Succeeded",
        reason="Completed",
        trusted=True,
        results_digest="d" * 64,
        **fields,
    )


@attack(
    27, POD, "says that its results are another tenant's, or a file of whoever reads the status"
)
@pytest.mark.parametrize(
    "uri", ["s3://evaluations/other/runs/b/manifest.json", "file:///etc/passwd", "https://evil/x"]
)
def test_the_address_of_the_results_is_the_operator_s_own(gets: Gets, uri: str) -> None:
    said = message(results_uri=uri).encode().decode()
    life = Life(begin(GPU, fates={"score": [Fate(message=said)]}))
    status = life.to_the_end()
    own = "s3://evaluations/team/runs/team/trial/uid-1/manifest.json"
    assert status["results"] == {"uri": own, "digest": "d" * 64}
    assert uri not in json.dumps(status)
    gets(f"status.results.uri is {own}")


@attack(28, POD, "leaves a termination message that is oversized, of another run, or no message")
@pytest.mark.parametrize("kind", ["oversized", "foreign", "deep", "odd"])
def test_a_message_that_is_none_is_no_success(gets: Gets, kind: str) -> None:
    valid = message(results_uri="s3://b/x")
    other = RunIdentity(namespace="team", name="trial", uid="uid-2")
    texts = {
        "oversized": valid.encode().decode().ljust(MAX_TERMINATION_BYTES + 1),
        "foreign": valid.model_copy(update={"run": other}).encode().decode(),
        "deep": '{"run":' * 2000,
        "odd": '{"version":1,"outcome":"Succeeded","results":"s3://b/x"}',
    }
    life = Life(begin(GPU, fates={"score": [Fate(message=texts[kind])]}))
    status = life.to_the_end()
    assert (status["phase"], reason_of(status)) == ("Failed", "InternalError")
    assert "results" not in status
    (ready,) = (entry for entry in status["conditions"] if entry["type"] == "Ready")
    gets(ready["message"])
