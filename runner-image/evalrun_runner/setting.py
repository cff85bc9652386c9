"""What the steps share: the plan, this machine's folders, the store, the report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import ValidationError

from evalrun_api import reasons
from evalrun_api.digests import canonical_json
from evalrun_api.errors import fail
from evalrun_api.lock import Lock
from evalrun_api.plan import RunPlan
from evalrun_runner import layout
from evalrun_runner.journal.request_list import Request
from evalrun_runner.places import Places, include_folder
from evalrun_runner.report import Report
from evalrun_runner.stopping import StopRequest
from evalrun_runner.stores import MAX_DOCUMENT_BYTES, Store
from evalrun_runner.workers.in_hand import Hand
from evalrun_runner.workers.watchdog import Watchdog

if TYPE_CHECKING:
    from evalrun_runner.harness.evaluation import Evaluator
    from evalrun_runner.judges.judging import Judges

log = logging.getLogger(__name__)


@dataclass
class Setting:
    """One process at work on one plan.

    shard: which share of the chunks is this pod's; of `plan.shards`.
    worker: which part of that is this process'; of `plan.workers`. None: all of it.
    judges: how tasks get to their judge; None where nothing leads them.
    weights: where a worker finds them; its supervisor has looked.
    hand, watchdog: what the supervisor and the watch over a stall know of each call.
    seconds: wall time by stage, as far as this process has seen them.
    """

    plan: RunPlan
    places: Places
    store: Store
    report: Report
    stop: StopRequest
    writer: str
    shard: int | None = None
    worker: int | None = None
    judges: Judges | None = None
    weights: str | None = None
    hand: Hand = field(default_factory=Hand)
    watchdog: Watchdog | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    _evaluator: Evaluator | None = None
    _holding_since: float | None = None

    @property
    def evaluator(self) -> Evaluator:
        """lmms-eval set up for the plan; importing it takes seconds, so it is done once."""
        if self._evaluator is None:
            self.report.activity("importing lmms-eval")
            with self.stage("start"):
                from evalrun_runner import logs
                from evalrun_runner.harness.evaluation import Evaluator

                logs.adopt_loguru()
                allow_code = self.plan.security.allow_code_execution
                include = [
                    include_folder(custom, self.places, allow_code=allow_code)
                    for custom in self.plan.custom_benchmarks
                ]
                self._evaluator = Evaluator(self.plan, include, self.places.work / "submissions")
        return self._evaluator

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time within as spent in a stage."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun
            self.report.stage(name, self.seconds[name])
            self.count_idle()

    @contextmanager
    def asking(self, requests: Sequence[Request]) -> Iterator[None]:
        """One call of the backend: noted for the supervisor, and watched for a stall."""
        with self.hand.holding(requests):
            if self.watchdog is None:
                yield
            else:
                with self.watchdog.call():
                    yield

    @contextmanager
    def holding_accelerators(self) -> Iterator[None]:
        """Time in which accelerators are held, used or not."""
        self._holding_since = time.monotonic()
        try:
            yield
        finally:
            self.count_idle()
            self._holding_since = None

    def count_idle(self) -> None:
        """Count the time in which accelerators were held and answered nothing, up to now.

        Times the number of accelerators it is what they cost for nothing: importing, loading and
        waiting for the store are in it.
        """
        if self._holding_since is None or not self.plan.is_accelerated:
            return
        held = time.monotonic() - self._holding_since
        self.seconds["idle"] = max(held - self.seconds.get("generate", 0.0), 0.0)
        self.report.stage("idle", self.seconds["idle"])

    def count_decoding(self, seconds: float) -> None:
        """Backends have waited for media so long by now: that was no answering."""
        more = seconds - self.seconds.get("decode", 0.0)
        if more <= 0:
            return
        self.seconds["decode"] = seconds
        self.seconds["generate"] = max(self.seconds.get("generate", 0.0) - more, 0.0)
        for name in ("decode", "generate"):
            self.report.stage(name, self.seconds[name])
        self.count_idle()

    def read_lock(self) -> Lock:
        """The lock that prepare wrote for this run."""
        key = layout.lock_of_run(self.plan.run)
        data = self.store.get(key, MAX_DOCUMENT_BYTES)
        where = self.store.uri(key)
        if data is None:
            raise fail(
                reasons.LOCK_MISMATCH, where, "prepare has not locked this run", "Run prepare first"
            )
        try:
            return Lock.model_validate_json(data)
        except ValidationError as error:
            raise fail(reasons.CORRUPT_STORE, where, "it is not a lock of this release") from error

    def write_plan(self) -> None:
        """Keep the plan and the files of its benchmarks, so that a run can be scored again."""
        from evalrun_runner.places import read_files

        key, data = layout.plan(self.plan.run), canonical_json(self.plan.document())
        if not self.store.create(key, data):
            self._compare_plan(key)
        folder = layout.run(self.plan.run)
        for custom in self.plan.custom_benchmarks:
            for name, text in read_files(custom, self.places).items():
                self.store.put(f"{folder}/benchmarks/{custom.name}/{name}", text.encode())

    def _compare_plan(self, key: str) -> None:
        """Refuse to go on with another plan; the store may have moved in between."""
        where = self.store.uri(key)
        try:
            stored = RunPlan.model_validate_json(self.store.get(key, MAX_DOCUMENT_BYTES) or b"")
        except ValidationError as error:
            raise fail(reasons.CORRUPT_STORE, where, "it is not a plan of this release") from error
        if not stored.asks_the_same(self.plan):
            raise fail(reasons.LOCK_MISMATCH, where, "this run was prepared with another plan")
