"""The loop: take a run, observe, decide, do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from evalrun_api.operator_config import OperatorConfig
from evalrun_operator.api_errors import ApiError, LeadershipLost, Unavailable
from evalrun_operator.decisions import Doc, Event, Observed, Plan, RunKey
from evalrun_operator.executor import Again, Executor
from evalrun_operator.gate import Gate
from evalrun_operator.metrics import Metrics
from evalrun_operator.rush import LATER_SECONDS, Rush, is_told_later
from evalrun_operator.store import Store
from evalrun_operator.strip import Kind
from evalrun_operator.work_queue import QueueClosed, WorkQueue

log = logging.getLogger(__name__)

AT_ONCE = 10
"""Looks at a run in a row, each wanting the next at once, before it has to wait a little."""
SETTLE_SECONDS = 0.1
"""How long a run's Jobs and pods may go on changing before it is looked at: they change several
times within moments. Nobody notices so short a wait, and a burst of runs takes half as many looks.
"""
RUSH_SETTLE_SECONDS = 2.0
"""The same while runs come in a rush: then their first Jobs come before all words."""

NEXT_SECONDS = 10.0
"""After which a run is told that it is the next in line. Where a line moves faster, none is."""

DEFECTS_TOLD = 5
"""Failures in a row by a defect of the operator, after which a run's owner is told."""

Reconcile = Callable[[Observed, datetime, OperatorConfig], Plan]


class Controller:
    """Looks after all runs.

    now: wall clock in UTC. relisted: told that a watch has begun anew. gate: where an administrator
    has set caps.
    """

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        executor: Executor,
        reconcile: Reconcile,
        config: OperatorConfig,
        metrics: Metrics,
        rush: Rush,
        *,
        now: Callable[[], datetime],
        relisted: Callable[[], None],
        gate: Gate | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._executor = executor
        self._reconcile = reconcile
        self._config = config
        self._metrics = metrics
        self._rush = rush
        self._now = now
        self._relisted = relisted
        self._gate = gate
        self._in_a_row: dict[RunKey, int] = {}
        self._defects: dict[RunKey, int] = {}

    def on_event(self, kind: Kind, change: str | None, document: Doc) -> None:
        """A watch tells of an object; `change` is None when it was found by listing."""
        if change is None:
            self._relisted()
        if change == "DELETED":
            key = self._store.forget(kind, document)
        else:
            # A watch's own list may have been kept on the way.
            key = self._store.put(kind, document, first_hand=change is not None)
        if kind == "EvaluationRun" and key is not None:
            self._rush.came(document)
        if key is not None:
            self._queue.add(key, after=0.0 if kind == "EvaluationRun" else self._settle_seconds())

    def _settle_seconds(self) -> float:
        return RUSH_SETTLE_SECONDS if self._rush.is_on else SETTLE_SECONDS

    async def run(self) -> None:
        """Work until the queue is closed. Raises `LeadershipLost`."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._config.workers):
                group.create_task(self._work(), name=f"worker {number}")

    async def _work(self) -> None:
        while True:
            try:
                key = await self._queue.get()
            except QueueClosed:
                return
            began = time.perf_counter()
            try:
                await self._look_at(key)
            finally:
                self._metrics.reconcile_duration.observe(time.perf_counter() - began)

    async def _look_at(self, key: RunKey) -> None:
        """One look at one run. Only the loss of leadership is more than its own affair."""
        run = f"{key.namespace}/{key.name}"
        try:
            again = await self.step(key)
        except LeadershipLost:
            self._queue.failed(key)
            raise
        except Again:
            self._queue.failed(key)
        except ApiError as error:
            asked = error.retry_after if isinstance(error, Unavailable) else None
            delay = self._queue.failed(key, asked or 0.0)
            self._metrics.reconcile_errors.labels(type(error).__name__).inc()
            log.warning("%s; again in %.1f s", error, delay, extra={"run": run})
        except Exception as error:
            delay = self._queue.failed(key)
            self._metrics.reconcile_errors.labels("Defect").inc()
            log.exception("a defect; again in %.1f s", delay, extra={"run": run})
            await self._tell(key, error)
        else:
            self._defects.pop(key, None)
            if again is None:
                self._in_a_row.pop(key, None)
            else:
                self._queue.add(key, after=self._brake(key, again))
            self._queue.done(key)

    async def _tell(self, key: RunKey, error: Exception) -> None:
        """Say it where the run's owner looks, once, if a run is failed at again and again."""
        self._defects[key] = times = self._defects.get(key, 0) + 1
        run = self._store.run(key)
        if run is not None and self._gate is not None:
            self._gate.failed(run["metadata"]["uid"])
        if times == DEFECTS_TOLD and run is not None:
            what = f"the operator fails at this run ({type(error).__name__}) and tries again"
            await self._executor.record(
                run, Event("Warning", "OperatorDefect", f"{what}; see its log")
            )

    def _brake(self, key: RunKey, again: float) -> float:
        """A run that wants to be looked at again at once for ever must not take a worker."""
        if again > 0:
            self._in_a_row.pop(key, None)
            return again
        self._in_a_row[key] = times = self._in_a_row.get(key, 0) + 1
        if times <= AT_ONCE:
            return 0.0
        del self._in_a_row[key]
        log.warning("looked at %d times in a row", times, extra={"run": str(key)})
        return 1.0

    async def step(self, key: RunKey) -> float | None:
        """Observe, decide, do. Returns and raises as `Executor.execute`."""
        if self._gate is None:
            observed = self._store.observe(key)
            return await self._act(key, observed) if observed is not None else None
        self._let_in(self._gate)
        observed = self._store.observe(key)
        if observed is None:
            return None
        waiting = self._gate.ask(observed.run["metadata"]["uid"])
        try:
            return await self._act(key, replace(observed, waiting=waiting))
        finally:
            self._let_in(self._gate)  # whoever ends or stops makes room

    async def _act(self, key: RunKey, observed: Observed) -> float | None:
        now = self._now()
        if self._rush.is_on and is_told_later(observed, now):
            return LATER_SECONDS
        plan = self._reconcile(observed, now, self._config)
        if self._gate is not None:
            self._gate.decided(observed.run["metadata"]["uid"], plan)
        return await self._executor.execute(key, observed, plan)

    def _let_in(self, gate: Gate) -> None:
        for key in gate.let_in():
            self._queue.add(key)
        for key in gate.new_heads():
            self._queue.add(key, after=NEXT_SECONDS)
