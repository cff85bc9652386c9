"""The operator as a whole: what runs, in which order it starts, and how it stops."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import time
import uuid
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp

from evalrun_api import nesting
from evalrun_api.index import builtin_index
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.profiles import builtin_profiles
from evalrun_operator import health, logs, memory, usage
from evalrun_operator.cluster import Cluster
from evalrun_operator.controller import Controller
from evalrun_operator.decisions import Doc, Ledger
from evalrun_operator.executor import Executor
from evalrun_operator.gate import Gate
from evalrun_operator.handlers import watch
from evalrun_operator.lease import Elector, Leadership, steady_clock
from evalrun_operator.metrics import Metrics
from evalrun_operator.pacing import Pacing
from evalrun_operator.queue_reader import QueueReader
from evalrun_operator.reconcile import reconcile
from evalrun_operator.resync import Resync
from evalrun_operator.rush import Rush
from evalrun_operator.scrape import Scraper
from evalrun_operator.store import Store
from evalrun_operator.transport import Transport, find_cluster
from evalrun_operator.watches import Watches
from evalrun_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

STOP_SECONDS = 9.0
"""In all; the kubelet's patience is longer."""
WORK_SECONDS = 5.0
"""For the writes in hand when the operator is asked to stop."""
SILENCE_SECONDS = 45.0
"""Without an answer of the API server, after which the replica is not ready; no less than the
Lease lasts."""
PROGRESS_SETTLE_SECONDS = 1.0
"""How long a run's other pods may be read before it is looked at: one look for them all."""
STANDSTILL_SECONDS = 300.0
"""A run in hand, or runs waiting and none taken, for so long means that the work stands still."""


def utc_now() -> datetime:
    """The time, for what people read."""
    return datetime.now(UTC)


class Operator:
    """All parts of one replica."""

    def __init__(
        self,
        config: OperatorConfig,
        cluster: Cluster,
        leadership: Leadership,
        metrics: Metrics,
        lease_namespace: str,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._leadership = leadership
        self._cluster = cluster
        self._metrics = metrics
        self._pulse = health.Pulse(time.monotonic)
        self._stop = asyncio.Event()
        self._electing = False
        self.store = Store(_settle, time.monotonic)
        self.gate = Gate(self.store, config.caps) if config.caps.any_set else None
        self.queue = WorkQueue(loop.time, random.random)
        reading = 1.2 * config.scrape.interval_seconds if config.scrape.enabled else 0.0
        pacing = Pacing(config.progress_seconds, time.monotonic, reading)
        # Of a pod there is one, and its containers follow each other.
        pod = os.environ.get("POD_UID", "")
        place = f"{socket.gethostname()}_{pod}_" if pod else ""
        rush = Rush(time.monotonic, lambda: self.queue.is_crowded)
        self.elector = Elector(
            cluster,
            leadership,
            namespace=lease_namespace,
            name=config.lease_name,
            identity=f"{place or socket.gethostname() + '_'}{uuid.uuid4()}",
            place=place,
            duration=config.lease_seconds,
            now=utc_now,
        )
        self._lease_beat = self._pulse.expect("lease", max(60.0, 4.0 * config.lease_seconds))
        self.resync = Resync(
            cluster,
            self.store,
            self.queue,
            interval=config.resync_seconds,
            namespaces=config.namespaces,
            random=random.random,
            beat=partial(self._pulse.beat, "resync"),
        )
        self.controller = Controller(
            self.store,
            self.queue,
            Executor(
                cluster,
                self.store,
                pacing,
                utc_now,
                metrics.count_finished,
                lambda: rush.is_on,
                metrics.count_written,
            ),
            reconcile,
            config,
            metrics,
            rush,
            now=utc_now,
            relisted=self.resync.soon,
            gate=self.gate,
        )
        self.scraper = Scraper(
            self.store,
            config.scrape,
            changed=partial(self.queue.add, after=PROGRESS_SETTLE_SECONDS),
            tried=metrics.scrapes.inc,
            failed=lambda reason: metrics.scrape_failures.labels(reason).inc(),
            random=random.random,
            beat=partial(self._pulse.beat, "scrape"),
        )
        self.queue_reader = QueueReader(
            cluster,
            self.store.waiting,
            self.queue,
            namespaces=config.namespaces,
            clock=time.monotonic,
            beat=partial(self._pulse.beat, "queues"),
        )
        self.watches = Watches(
            partial(
                watch,
                self.controller.on_event,
                cluster.transport.connection,
                config.namespaces,
                self.take_signals,
            ),
            metrics.watch_restarts.inc,
            time.monotonic,
        )
        self._config = config
        metrics.leader.set_function(lambda: float(leadership.held))
        metrics.watch_store(
            self.store,
            lambda: self.queue.depth,
            lambda: self.gate.in_line if self.gate is not None else 0,
        )
        metrics.watch_limit(cluster.transport.limit)

    def take_signals(self) -> None:
        """SIGTERM and SIGINT ask to stop. Repeated, since kopf takes them for itself."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def checks(self) -> health.Checks:
        """What the endpoints say."""
        return health.Checks(self._alive, self._ready, self._role, self._metrics.text)

    async def run(self) -> int:
        """Lead when it is this replica's turn, until asked to stop. The exit code."""
        self.take_signals()
        self._electing = True
        acquiring = asyncio.create_task(self.elector.acquire(self._lease_beat))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((acquiring, stopping), return_when=asyncio.FIRST_COMPLETED)
        if self._stop.is_set():
            await _end(acquiring)
            await self.elector.release()  # it may have been taken at the last moment
            return 0
        acquiring.result()
        return await self._lead(stopping)

    async def _lead(self, stopping: asyncio.Task[Any]) -> int:
        keeping = asyncio.create_task(self.elector.keep(self._lease_beat), name="lease")
        self._pulse.expect("resync", STANDSTILL_SECONDS)
        parts = [asyncio.create_task(self.resync.run(), name="resync")]
        synced = asyncio.create_task(self.resync.synced.wait())
        await asyncio.wait((stopping, keeping, synced, *parts), return_when=asyncio.FIRST_COMPLETED)
        working: asyncio.Task[None] | None = None
        if synced.done():
            memory.settle()
            working = asyncio.create_task(self.controller.run(), name="workers")
            parts.append(asyncio.create_task(self.watches.run(), name="watches"))
            self._pulse.expect("queues", STANDSTILL_SECONDS)
            parts.append(asyncio.create_task(self.queue_reader.run(), name="queues"))
            if self._config.scrape.enabled:
                self._pulse.expect("scrape", max(60.0, 5.0 * self._config.scrape.interval_seconds))
                parts.append(asyncio.create_task(self.scraper.run(), name="scrape"))
            everything = (stopping, keeping, working, *parts)
            await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        await _end(synced)
        if keeping.done() or not self._leadership.held:
            self._end_at_once("leadership is lost: the process ends, so that nothing is written")
        code = 0 if stopping.done() else self._explain(parts, working)
        await self._wind_down(parts, working, keeping)
        return code

    async def _wind_down(
        self,
        parts: list[asyncio.Task[None]],
        working: asyncio.Task[None] | None,
        keeping: asyncio.Task[None],
    ) -> None:
        """Stop in order: finish the writes in hand, then give the Lease back."""
        log.info("stopping")
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_at_the_end)
        loop.call_later(STOP_SECONDS, self._end_at_once, f"it did not stop in {STOP_SECONDS:.0f} s")
        self.queue.close()
        if working is not None:
            await asyncio.wait((working,), timeout=WORK_SECONDS)
            await _end(working)
        await _end(keeping)
        await self.elector.release()
        await _end(*parts)  # they only read, and nobody has to wait for them

    def _explain(self, parts: list[asyncio.Task[None]], working: asyncio.Task[None] | None) -> int:
        for task in (*parts, *((working,) if working else ())):
            if task.done() and not task.cancelled():
                error = task.exception()
                log.critical("%s ended: %s", task.get_name(), error, exc_info=error)
        return 1

    def _end_at_once(self, why: str) -> None:
        log.critical(why)
        logs.flush()
        os._exit(1)

    def _role(self) -> str:
        if self._leadership.held:
            return "leader"
        return "standby" if self._electing else "starting"

    def _alive(self) -> health.Verdict:
        faults = self._pulse.faults()
        if self._leadership.held and self.store.synced:
            late = max(self.queue.longest_wait(), self.queue.longest_work())
            if late > STANDSTILL_SECONDS:
                faults["workers"] = f"no run was taken, or one was worked on, for {late:.0f} s"
            if (down := self.watches.down_seconds()) > STANDSTILL_SECONDS:
                faults["watches"] = f"down for {down:.0f} s"
        return faults

    def _ready(self) -> health.Verdict:
        faults: health.Verdict = {}
        answered = self._cluster.transport.answered_at
        if answered is None:
            faults["api"] = "the API server has not answered yet"
        elif (silence := time.monotonic() - answered) > max(
            SILENCE_SECONDS, self._config.lease_seconds
        ):
            faults["api"] = f"the API server has not answered for {silence:.0f} s"
        if self.elector.trouble and not self._leadership.held:
            faults["lease"] = self.elector.trouble
        if self._leadership.held and not self.store.synced:
            faults["store"] = "the cluster has not been read in full yet"
        return faults


async def operate(config: OperatorConfig, host: str, port: int, lease_namespace: str | None) -> int:
    """Run a replica. The process' exit code. Raises `ApiError` if there is no cluster."""
    nesting.allow()
    memory.keep_little()
    metrics = Metrics()
    leadership = Leadership(steady_clock)
    builtin_profiles(), builtin_index()  # a tenth of a second that the first run need not wait
    configuration, namespace = await find_cluster()
    transport = Transport(configuration, leadership.fence, metrics.count_request)
    operator = Operator(
        config, Cluster(transport), leadership, metrics, lease_namespace or namespace
    )
    server = await health.serve(operator.checks(), host, port)
    try:
        return await operator.run()
    finally:
        await server.cleanup()
        await transport.close()
        log.info("stopped")


def _at_the_end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Kopf's generators object to being closed while they list, and its requests to losing their
    connections; nothing depends on them then. Our own are never left to the loop.
    """
    lost = isinstance(context.get("exception"), aiohttp.ClientError)
    if "asyncgen" not in context and not lost:
        loop.default_exception_handler(context)


def _settle(pod: Doc) -> Ledger:
    return usage.settle(pod, utc_now())


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
