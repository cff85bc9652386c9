"""The loop goes on whatever one run does, and the readings feed it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from fake_api import FakeApi
from objects import job, pod, run

from evalrun_api.operator_config import Caps, OperatorConfig
from evalrun_operator.api_errors import LeadershipLost, NotFound, Unavailable
from evalrun_operator.cluster import Cluster
from evalrun_operator.controller import AT_ONCE, Controller
from evalrun_operator.decisions import CreateJob, Doc, Ledger, Observed, Plan, RunKey
from evalrun_operator.executor import Executor
from evalrun_operator.gate import Gate
from evalrun_operator.metrics import Metrics
from evalrun_operator.pacing import Pacing
from evalrun_operator.resources import Resource
from evalrun_operator.resync import HistoryChanged, Resync
from evalrun_operator.rush import Rush
from evalrun_operator.store import Store
from evalrun_operator.work_queue import WorkQueue

pytestmark = pytest.mark.decisions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = OperatorConfig.model_validate({"images": {"runner": "r"}, "workers": 4})


class Loop:
    """A Controller on a FakeApi."""

    def __init__(
        self, decide: Callable[[Observed], Plan], caps: Caps | None = None, api: Any = None
    ) -> None:
        self.api = api or FakeApi()
        self.metrics = Metrics()
        self.store = Store(lambda pod: Ledger(), time.monotonic)
        self.queue = WorkQueue(asyncio.get_running_loop().time, lambda: 0.5)
        self.relisted = 0
        cluster = cast(Cluster, self.api)
        self.resync = Resync(
            cluster,
            self.store,
            self.queue,
            interval=600,
            namespaces=[],
            random=lambda: 0.0,
            beat=lambda: None,
        )
        self.controller = Controller(
            self.store,
            self.queue,
            Executor(
                cluster,
                self.store,
                Pacing(30, time.monotonic),
                lambda: NOW,
                self.metrics.count_finished,
            ),
            lambda observed, now, config: decide(observed),
            CONFIG,
            self.metrics,
            Rush(time.monotonic, lambda: self.queue.is_crowded),
            now=lambda: NOW,
            relisted=self._relist,
            gate=Gate(self.store, caps) if caps is not None else None,
        )

    def _relist(self) -> None:
        self.relisted += 1

    def add(self, name: str) -> None:
        document = self.api.add("evaluationruns", run(name, f"uid-{name}"))
        self.controller.on_event("EvaluationRun", "ADDED", document)

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def until(self, holds: Callable[[], bool]) -> None:
        working = asyncio.create_task(self.controller.run())
        try:
            async with asyncio.timeout(10):
                while not holds():
                    await asyncio.sleep(0.005)
        finally:
            self.queue.close()
            await working


def play(scene: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 30))


class SlowApi(FakeApi):
    """Creates take a while, in which others are in hand; it counts those that were ever there."""

    async def create(self, resource: Resource, namespace: str, document: Doc) -> Doc:
        await asyncio.sleep(0.02)
        return await super().create(resource, namespace, document)

    def jobs(self) -> list[str]:
        return [name for kind, _, name in self.objects if kind == "jobs"]


def begin(observed: Observed) -> Plan:
    """Create the Job of a run that may begin and has none."""
    metadata = observed.run["metadata"]
    if observed.waiting is not None or observed.jobs or observed.run.get("status"):
        return Plan()
    created = job(f"{metadata['name']}-run", owner=metadata["uid"])
    created["metadata"]["labels"]["lmms-eval.io/run"] = metadata["name"]
    del created["metadata"]["uid"]
    return Plan(actions=(CreateJob(created),))


def test_workers_that_look_at_the_same_time_exceed_no_cap_and_go_on_when_there_is_room() -> None:
    async def scene() -> None:
        api = SlowApi()
        loop = Loop(begin, Caps(max_active_runs=2), api)
        for number in range(8):
            loop.add(f"r{number}")
        working = asyncio.create_task(loop.controller.run())
        await asyncio.sleep(0.01)
        loop.add("older")  # by its name; the first two are in hand, and no Job of theirs is there
        await asyncio.sleep(0.3)
        assert api.jobs() == ["r0-run", "r1-run"]
        ended = api.objects[("evaluationruns", "team", "r0")]
        ended = api.add("evaluationruns", {**ended, "status": {"completionTime": "x"}})
        loop.controller.on_event("EvaluationRun", "MODIFIED", ended)
        gone = api.objects[("evaluationruns", "team", "r1")]
        loop.controller.on_event("EvaluationRun", "DELETED", gone)
        await asyncio.sleep(0.3)
        assert api.jobs() == ["r0-run", "r1-run", "older-run", "r2-run"]
        loop.queue.close()
        await working

    play(scene)


def test_a_run_that_is_failed_at_again_and_again_keeps_nobody_waiting() -> None:
    def decide(observed: Observed) -> Plan:
        if observed.run["metadata"]["name"] == "bad":
            raise ZeroDivisionError
        return begin(observed)

    async def scene() -> None:
        api = SlowApi()
        loop = Loop(decide, Caps(max_active_runs=1), api)
        loop.add("bad")
        loop.add("good")
        await loop.until(lambda: api.jobs() == ["good-run"])

    play(scene)


def test_a_run_that_waits_for_a_person_before_a_cap_is_looked_at_when_it_asked_to_be() -> None:
    looks = 0

    def decide(observed: Observed) -> Plan:
        nonlocal looks
        looks += 1
        if looks > 100:
            raise RecursionError  # looks that follow each other at once would never end
        return Plan(stands_aside=True, requeue_after=0.1)

    async def scene() -> None:
        loop = Loop(decide, Caps(max_active_runs=1))
        loop.add("bad")
        working = asyncio.create_task(loop.controller.run())
        await asyncio.sleep(0.55)
        loop.queue.close()
        await working
        assert 2 <= looks <= 8

    play(scene)


def test_a_run_that_makes_the_decision_fail_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def decide(observed: Observed) -> Plan:
        if observed.run["metadata"]["name"] == "bad":
            raise ZeroDivisionError
        return Plan(status={"phase": "Answering"}, urgent=True)

    async def scene() -> None:
        loop = Loop(decide)
        for name in ("bad", "a", "b", "c"):
            loop.add(name)
        await loop.until(
            lambda: (
                len(loop.api.patches) == 3
                and loop.metric("evalrun_operator_reconcile_errors_total", kind="Defect") >= 2
            )
        )

    with caplog.at_level(logging.ERROR):
        play(scene)
    assert {getattr(record, "run", None) for record in caplog.records} == {"team/bad"}


def test_the_owner_of_a_run_that_is_always_failed_at_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evalrun_operator.work_queue.LONGEST_DELAY", 0.01)

    def decide(observed: Observed) -> Plan:
        raise ZeroDivisionError("a secret")

    async def scene() -> None:
        loop = Loop(decide)
        loop.add("bad")
        await loop.until(
            lambda: loop.metric("evalrun_operator_reconcile_errors_total", kind="Defect") >= 9
        )
        events = [doc for (kind, *_), doc in loop.api.objects.items() if kind == "events"]
        assert [event["reason"] for event in events] == ["OperatorDefect"]
        assert "ZeroDivisionError" in events[0]["message"]
        assert "secret" not in events[0]["message"]

    play(scene)


def test_a_failed_request_is_tried_again() -> None:
    async def scene() -> None:
        loop = Loop(lambda observed: Plan(status={"phase": "Answering"}, urgent=True))
        loop.api.fail_before[("patch", "evaluationruns")] = [Unavailable("patch", 500, "boom")] * 2
        loop.add("a")
        await loop.until(lambda: len(loop.api.patches) == 1)
        assert loop.metric("evalrun_operator_reconcile_errors_total", kind="Unavailable") == 2

    play(scene)


def test_lost_leadership_ends_the_loop() -> None:
    async def scene() -> None:
        loop = Loop(lambda observed: Plan(status={"phase": "Answering"}, urgent=True))
        lost: Any = LeadershipLost("gone")
        loop.api.fail_before[("patch", "evaluationruns")] = [lost]
        loop.add("a")
        with pytest.raises(ExceptionGroup) as raised:
            await loop.controller.run()
        assert raised.group_contains(LeadershipLost)

    play(scene)


def test_a_run_that_wants_to_be_looked_at_for_ever_is_braked() -> None:
    looks = 0

    def decide(observed: Observed) -> Plan:
        nonlocal looks
        looks += 1
        return Plan(requeue_after=0.0)

    async def scene() -> None:
        loop = Loop(decide)
        loop.add("a")
        working = asyncio.create_task(loop.controller.run())
        await asyncio.sleep(0.5)
        loop.queue.close()
        await working

    play(scene)
    assert looks == AT_ONCE + 1


def test_the_end_of_an_object_is_told_and_listing_asks_for_a_reading() -> None:
    async def scene() -> None:
        loop = Loop(lambda observed: Plan())
        loop.controller.on_event("EvaluationRun", None, run(version=1))
        assert loop.relisted == 1
        assert loop.store.observe(RunKey("team", "one")) is not None
        assert loop.store.is_second_hand("run-1")
        loop.controller.on_event("EvaluationRun", "DELETED", run(version=2))
        assert loop.relisted == 1
        assert loop.store.observe(RunKey("team", "one")) is None

    play(scene)


def test_a_reading_fills_the_store_and_queues_what_is_active() -> None:
    async def scene() -> None:
        loop = Loop(lambda observed: Plan())
        loop.api.add("evaluationruns", run("active", "u1"))
        ended = run("ended", "u2", completionTime="2026-01-01T00:00:00Z")
        loop.api.add("evaluationruns", ended)
        loop.api.add("jobs", job(owner="u1"))
        loop.api.add("pods", pod())
        await loop.resync.read()
        assert loop.store.synced
        assert loop.store.is_second_hand("u1")
        assert not loop.store.is_second_hand("u2")
        assert await loop.queue.get() == RunKey("team", "active")
        assert loop.queue.depth == 0
        observed = loop.store.observe(RunKey("team", "active"))
        assert observed is not None
        assert observed.jobs

    play(scene)


def test_a_newer_version_may_be_of_the_past_too_but_a_new_run_of_a_watch_is_not() -> None:
    async def scene() -> None:
        loop = Loop(lambda observed: Plan())
        for name in ("one", "two"):
            loop.api.add("evaluationruns", run(name, name))
        await loop.resync.read()
        assert loop.store.is_second_hand("one")
        assert loop.store.is_second_hand("two")
        changed = loop.api.add("evaluationruns", run("one", "one", phase="Answering"))
        loop.controller.on_event("EvaluationRun", "MODIFIED", changed)
        loop.api.add("evaluationruns", run("two", "two", phase="Answering"))
        await loop.resync.read()
        loop.controller.on_event("EvaluationRun", "ADDED", run("three", "three", 1000))
        assert loop.store.is_second_hand("one")
        assert loop.store.is_second_hand("two")
        assert not loop.store.is_second_hand("three")

    play(scene)


def test_a_missed_deletion_ends_with_the_next_reading() -> None:
    async def scene() -> None:
        loop = Loop(lambda observed: Plan())
        loop.api.add("evaluationruns", run())
        await loop.resync.read()
        loop.api.remove("evaluationruns", "team", "one")
        await loop.resync.read()
        assert loop.store.observe(RunKey("team", "one")) is None

    play(scene)


def test_a_reading_that_fails_is_repeated_and_decides_nothing_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evalrun_operator.resync.RETRY", 0.01)

    async def scene() -> None:
        loop = Loop(lambda observed: Plan())
        loop.api.add("evaluationruns", run())
        loop.api.fail_before[("list", "pods")] = [NotFound("list", 404), Unavailable("list", 500)]
        reading = asyncio.create_task(loop.resync.run())
        await loop.resync.synced.wait()
        assert loop.store.synced
        assert not loop.api.fail_before[("list", "pods")]
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    play(scene)


def test_a_server_that_knows_less_than_before_ends_the_process() -> None:
    async def scene() -> None:
        loop = Loop(lambda observed: Plan())
        await loop.resync.read()
        loop.api.version = 1
        with pytest.raises(HistoryChanged, match="restored from a backup"):
            await loop.resync.read()

    play(scene)


def test_a_reading_may_be_asked_for_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalrun_operator.resync.SOON", 0.02)

    async def scene() -> None:
        loop = Loop(lambda observed: Plan())
        reading = asyncio.create_task(loop.resync.run())
        await loop.resync.synced.wait()
        loop.resync.soon()
        async with asyncio.timeout(5):
            while sum(verb == "list" for verb, _, _ in loop.api.requests) < 6:
                await asyncio.sleep(0.005)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    play(scene)
