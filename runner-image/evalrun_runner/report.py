"""What the runner tells the world while it works: progress, metrics, the termination message."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter as Tally
from collections import deque
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from evalrun_api import reasons
from evalrun_api.journal import ErrorClass
from evalrun_api.lock import Lock
from evalrun_api.plan import RunPlan
from evalrun_api.progress import Progress, StepName, TaskProgress
from evalrun_api.status import StageSeconds
from evalrun_api.termination import TerminationMessage
from evalrun_runner.given_secrets import for_people
from evalrun_runner.workers.mailbox import Mailbox, TaskCounts, WorkerState
from evalrun_runner.workers.merging import Sums

log = logging.getLogger(__name__)

RATE_WINDOW_SECONDS = 30.0
REWRITE_SECONDS = 5.0
"""How old the termination message of a process with workers may be."""
STORE_FAILURES = (
    reasons.STORE_UNAVAILABLE,
    reasons.CREDENTIALS_REFUSED,
    reasons.ACCESS_DENIED,
    reasons.BUCKET_NOT_FOUND,
    reasons.DISK_FULL,
)
"""Those that are told from the start, so that the first one is seen to be more than none."""
MAX_TASKS = 2000
MAX_REVISION = 512
MAX_MESSAGE = 2048
"""Of what the contract lets be written, in characters."""


class Report:
    """The state of this process, for its HTTP server and its termination message.

    Written by the thread that works, read by the threads that serve.

    mailbox: of a worker, whose supervisor it tells the same.
    """

    def __init__(
        self,
        plan: RunPlan,
        step: StepName,
        termination_log: Path | None,
        mailbox: Mailbox | None = None,
    ) -> None:
        self._termination_log = termination_log
        self._mailbox = mailbox
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._begun = time.monotonic()
        self._written_at = 0.0
        self._recent: deque[tuple[float, int]] = deque()
        self._totals: dict[str, int] = {}
        self._reused: dict[str, int] = {}
        self._computed: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._failures: Tally[str] = Tally()
        self._adopted: Tally[str] = Tally()
        self._activity = "starting"
        self._message = TerminationMessage(
            run=plan.run, step=step, outcome="Running", reason="Running"
        )
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "evalrun_runner_requests",
            "Requests that have an answer, by where the answer came from.",
            ["task", "origin"],
            registry=self.registry,
        )
        self._expected = Gauge(
            "evalrun_runner_requests_expected",
            "Requests of this process' share.",
            ["task"],
            registry=self.registry,
        )
        self._failed = Counter(
            "evalrun_runner_invalid_answers",
            "Answers that failed for good, by class.",
            ["error"],
            registry=self.registry,
        )
        self._store_failures = Counter(
            "evalrun_runner_store_failures",
            "Requests to the store that failed, by reason, also those that are repeated.",
            ["reason"],
            registry=self.registry,
        )
        for reason in STORE_FAILURES:
            self._store_failures.labels(reason.name)
        self._restarts = Counter(
            "evalrun_runner_worker_restarts",
            "Workers that were started anew.",
            registry=self.registry,
        )
        self._stage = Gauge(
            "evalrun_runner_stage_seconds",
            "Seconds spent by stage.",
            ["stage"],
            registry=self.registry,
        )

    def enter(self, step: StepName, activity: str) -> None:
        """A step begins."""
        self.conclude(step=step)
        self.activity(activity)

    def activity(self, text: str) -> None:
        """What is being done now, in a few words."""
        with self._lock:
            self._activity = text[:300].encode("utf-8", "replace").decode()

    def expect(self, task: str, requests: int, reused: int = 0) -> None:
        """This process' share of a task has so many requests, and the journal answers to so many.

        Told at once: a supervisor counts what it does not see in the beginning as computed.
        """
        with self._lock:
            self._totals[task] = requests
            self._reused[task] = self._reused.get(task, 0) + reused
            self._computed.setdefault(task, 0)
        self._expected.labels(task).set(requests)
        for origin in ("reused", "computed"):
            self._requests.labels(task, origin)  # that none has come yet is to be seen
        self._count_reused(task, reused)

    def reused(self, task: str, count: int) -> None:
        """Answers that were in the journal."""
        with self._lock:
            self._reused[task] += count
        self._count_reused(task, count)

    def _count_reused(self, task: str, count: int) -> None:
        if count:
            self.conclude(reused=self._message.reused + count)
            self._requests.labels(task, "reused").inc(count)

    def computed(self, task: str, count: int) -> None:
        """Answers that the model gave just now."""
        now = time.monotonic()
        with self._lock:
            self._computed[task] += count
            self._recent.append((now, count))
            while self._recent[0][0] < now - RATE_WINDOW_SECONDS:
                self._recent.popleft()
            self._message = self._message.model_copy(
                update={"computed": self._message.computed + count}
            )
        self._requests.labels(task, "computed").inc(count)

    def failed(self, error: ErrorClass, count: int = 1) -> None:
        """Answers that failed for good, of those that were computed."""
        with self._lock:
            errors = dict(self._message.errors)
            errors[error] = errors.get(error, 0) + count
            self._message = self._message.model_copy(update={"errors": errors})
        self._failed.labels(error).inc(count)

    def store_failed(self, reason: str, count: int = 1) -> None:
        """Requests to the store failed. reason: one that is known."""
        with self._lock:
            self._failures[reason] += count
        self._store_failures.labels(reason).inc(count)

    def restarted(self) -> None:
        """A worker was started anew."""
        self.conclude(restarts=self._message.restarts + 1)
        self._restarts.inc()

    def stage(self, name: str, seconds: float) -> None:
        """Time spent in a stage (load, generate, score…)."""
        with self._lock:
            self._seconds[name] = seconds
        self._stage.labels(name).set(seconds)
        if name in StageSeconds.model_fields:
            with self._lock:
                known = self._message.seconds or StageSeconds()
                known = known.model_copy(update={name: round(seconds)})
                self._message = self._message.model_copy(update={"seconds": known})

    def locked(self, lock: Lock) -> None:
        """The run is locked: what it is made of is known."""
        self.conclude(
            answers_digest=lock.answers,
            requests_total=lock.requests_total,
            lmms_eval=lock.versions["lmms-eval"],
            model_revision=lock.model.revision[:MAX_REVISION],
        )

    @property
    def counts(self) -> tuple[int, int]:
        """(reused, computed) answers of this process."""
        return self._message.reused, self._message.computed

    def progress(self) -> Progress:
        """What /progress serves."""
        now = time.monotonic()
        with self._lock:
            message, totals = self._message, dict(self._totals)
            done = {name: self._reused[name] + self._computed[name] for name in totals}
            recent, activity = list(self._recent), self._activity
        total, finished = sum(totals.values()), sum(done.values())
        rate = _rate(recent, now)
        return Progress(
            step=message.step,
            activity=activity,
            requests_done=min(finished, total),
            requests_total=total,
            reused=message.reused,
            computed=message.computed,
            errors=message.errors,
            restarts=message.restarts,
            requests_per_second=round(rate, 3),
            eta_seconds=round((total - finished) / rate, 1) if rate and total > finished else None,
            elapsed_seconds=round(now - self._begun, 3),
            tasks=[
                TaskProgress(name=name, requests_done=done[name], requests_total=count)
                for name, count in list(totals.items())[:MAX_TASKS]
            ],
        )

    def state(self) -> WorkerState:
        """What a worker tells its supervisor."""
        with self._lock:
            message = self._message
            return WorkerState(
                activity=self._activity,
                tasks=[
                    TaskCounts(
                        name=name,
                        total=total,
                        reused=self._reused[name],
                        computed=self._computed[name],
                    )
                    for name, total in self._totals.items()
                ],
                errors=message.errors,
                seconds=dict(self._seconds),
                store_failures=dict(self._failures),
                reason=message.reason,
                message=message.message,
            )

    def adopt(self, sums: Sums) -> None:
        """Take over what the workers of this process have done together; it never falls."""
        self.activity(sums.activity)
        for name, counts in sums.tasks.items():
            # A share is known once its requests are built; a total known before is of all.
            if counts.total > self._totals.get(name, -1):
                self.expect(name, counts.total)
            self.reused(name, max(counts.reused - self._reused[name], 0))
            if (news := counts.computed - self._computed[name]) > 0:
                self.computed(name, news)
        for error, count in sums.errors.items():
            if (more := count - self._message.errors.get(error, 0)) > 0:
                self.failed(error, more)
        for reason, count in sums.store_failures.items():
            # Workers run foreign code, and what they call a reason becomes a label.
            if reason in reasons.REASONS and (more := count - self._adopted[reason]) > 0:
                self._adopted[reason] = count
                self.store_failed(reason, more)
        for name, seconds in sums.seconds.items():
            self.stage(name, seconds)
        if time.monotonic() - self._written_at >= REWRITE_SECONDS:
            self.conclude()  # what a killed pod leaves says how far it was

    def tell(self) -> None:
        """Tell the supervisor, if there is one.

        One thread at a time, or one that is late could hide what another has said since: the end.
        """
        if self._mailbox is not None:
            with self._telling:
                self._mailbox.tell(self.state())

    def conclude(self, **changes: Any) -> None:
        """Change the termination message and write it."""
        if "message" in changes:  # foreign words: what cannot be written must not end the process
            said = for_people(changes["message"])[:MAX_MESSAGE]  # what was hidden may be longer
            changes["message"] = said.encode("utf-8", "replace").decode()
        with self._lock:
            self._message = self._message.model_copy(update=changes)
        self.tell()
        with self._lock:
            self._written_at = time.monotonic()
            if self._termination_log is None:
                return
            try:
                # In place: in a pod the file is a mount and cannot be replaced.
                self._termination_log.write_bytes(self._message.encode())
            except OSError as error:  # the exit code still tells the outcome
                log.warning("the termination message cannot be written: %s", error)


def _rate(recent: list[tuple[float, int]], now: float) -> float:
    """Answers a second over the recent window; 0 when there are none."""
    if len(recent) < 2:
        return 0.0
    span = now - recent[0][0]
    return sum(count for _, count in recent[1:]) / span if span > 0 else 0.0
