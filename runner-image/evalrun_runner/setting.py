"""What the steps share: the plan, this machine's folders, the store, the report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
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
from evalrun_runner.places import Places, include_folder
from evalrun_runner.report import Report
from evalrun_runner.stopping import StopRequest
from evalrun_runner.stores import Store

if TYPE_CHECKING:
    from evalrun_runner.evaluation import Evaluator

log = logging.getLogger(__name__)


@dataclass
class Setting:
    """One process at work on one plan.

    shard: which share of the chunks is this pod's; of `plan.shards`.
    worker: which part of that is this process'; of `plan.workers`. None: all of it.
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
    seconds: dict[str, float] = field(default_factory=dict)
    _evaluator: Evaluator | None = None

    @property
    def evaluator(self) -> Evaluator:
        """lmms-eval set up for the plan; importing it takes seconds, so it is done once."""
        if self._evaluator is None:
            self.report.activity("importing lmms-eval")
            with self.stage("start"):
                from evalrun_runner import logs
                from evalrun_runner.evaluation import Evaluator

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

    def read_lock(self) -> Lock:
        """The lock that prepare wrote for this run."""
        key = layout.lock_of_run(self.plan.run)
        data = self.store.get(key)
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
            stored = RunPlan.model_validate_json(self.store.get(key) or b"")
        except ValidationError as error:
            raise fail(reasons.CORRUPT_STORE, where, "it is not a plan of this release") from error
        if not stored.asks_the_same(self.plan):
            raise fail(reasons.LOCK_MISMATCH, where, "this run was prepared with another plan")
