"""The desk at which tasks get their verdicts: recorded ones at once, others bought and kept first.

It also remembers what went wrong. A task that gets no verdict may swallow the error and score
zero, so the first failure ends the step, whatever the task makes of it.
"""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.judge import JudgeSpec, JudgeUsage, Verdict
from evalrun_runner.judges.request import JudgeRequest, judge_request, tokens_of
from evalrun_runner.judges.server import Answered, Failed, delay
from evalrun_runner.judges.verdicts import Verdicts

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 600.0
"""How long one verdict is tried for."""
CLOSE_SECONDS = 15.0
"""How long a verdict that is on its way is waited for when the step has to end."""
AT_ONCE = 32
"""Requests that are with the judge at the same time; most tasks ask one after another."""

WHERE = "spec.evaluation.judge"


class Asked(Protocol):
    """What asks the server (`JudgeServer`)."""

    def ask(self, request: JudgeRequest) -> Answered | Failed:
        """Send the request once."""


@dataclass
class Ticket:
    """One request of a task, to be answered by the `draw`-th verdict on it."""

    request: JudgeRequest
    draw: int
    verdict: Future[Verdict]


class Closed(Exception):  # noqa: N818 - the end of the day, not a mishap
    """Scoring has ended; nothing more is bought."""


class Failures:
    """The first reason why no score may come of a scoring.

    on_failure: called once there is one.
    """

    def __init__(self, on_failure: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._first: EvalrunError | None = None
        self._on_failure = on_failure

    @property
    def first(self) -> EvalrunError | None:
        """The first one; None as long as all is well."""
        return self._first

    def add(self, error: EvalrunError) -> None:
        """Something failed."""
        with self._lock:
            if self._first is None:
                self._first = error
                log.error("judging failed: %s", error)
        self._on_failure()

    def check(self) -> None:
        """Raise the first one, if there is one."""
        if self._first is not None:
            raise self._first


class NoDesk:
    """Stands where a run names no judge: to be asked at all is the failure."""

    def __init__(self, failures: Failures) -> None:
        self.failures = failures

    def take(self, target: str, body: Any) -> Ticket:
        """Refuse."""
        del target, body
        what = "a benchmark asks a judge, and the run names none"
        remedy = "Set evaluation.judge.endpoint, and apply it again under a new name"
        error = fail(reasons.INVALID_SPEC, WHERE, what, remedy)
        self.failures.add(error)
        raise error

    def give_back(self, ticket: Ticket) -> None:
        """There are no tickets."""

    def check(self) -> None:
        """Raise if it was asked."""
        self.failures.check()

    @property
    def usage(self) -> None:
        """Nothing was asked, so nothing was used."""
        return


class Desk:
    """Answers the requests of one scoring.

    recorded: verdicts that are in the journal. keep: stores one, and returns when it is durable.
    run: uid of the run that pays. on_verdict: called after each purchase.
    patience: seconds for which one verdict is tried for.
    """

    def __init__(
        self,
        spec: JudgeSpec,
        run: str,
        recorded: Verdicts,
        keep: Callable[[Verdict], None],
        server: Asked,
        failures: Failures,
        on_verdict: Callable[[], None] = lambda: None,
        patience: float | None = None,
    ) -> None:
        self._spec = spec
        self._run = run
        self._recorded = recorded
        self._keep = keep
        self._server = server
        self.failures = failures
        self._on_verdict = on_verdict
        self._patience = PATIENCE_SECONDS if patience is None else patience
        self._lock = threading.Lock()
        self._arrived: Counter[str] = Counter()
        self._returned: defaultdict[str, list[int]] = defaultdict(list)
        self._bought: dict[tuple[str, int], Future[Verdict]] = {}
        self._given: set[tuple[str, int]] = set()
        self._ending = threading.Event()
        self._buyers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="judge")
        self._gave_up = 0
        self._asking = 0
        own = [verdict for verdict in recorded.values() if verdict.run == run]
        failed = sum(verdict.failures for verdict in own)
        self._usage = JudgeUsage(
            requests=len(own) + failed,
            failures=failed,
            input_tokens=sum(verdict.input_tokens for verdict in own),
            output_tokens=sum(verdict.output_tokens for verdict in own),
        )

    def take(self, target: str, body: Any) -> Ticket:
        """A task's request as a ticket; its verdict is on the way. Raises `EvalrunError`."""
        if self.failures.first is not None:  # the task goes on: tell again
            self.failures.add(self.failures.first)
            self.failures.check()
        try:
            request = judge_request(self._spec, target, body)
        except EvalrunError as error:
            self.failures.add(error)
            raise
        with self._lock:
            waiting = self._returned[request.digest]
            draw = heapq.heappop(waiting) if waiting else self._arrived[request.digest]
            self._arrived[request.digest] = max(self._arrived[request.digest], draw + 1)
            at = (request.digest, draw)
            if (found := self._recorded.get(at)) is not None:
                future: Future[Verdict] = Future()
                future.set_result(found)
                if found.run != self._run and at not in self._given:
                    self._add(recorded=1)
                self._given.add(at)
            else:
                if at not in self._bought:
                    self._bought[at] = self._buyers.submit(self._buy, request, draw)
                future = self._bought[at]
        return Ticket(request, draw, future)

    def give_back(self, ticket: Ticket) -> None:
        """The task hung up before it had its verdict. If it asks again, that one is meant."""
        with self._lock:
            heapq.heappush(self._returned[ticket.request.digest], ticket.draw)
            self._gave_up += 1

    def check(self) -> None:
        """Raise if something failed, or a task went on without its verdict.

        To be called when the tasks are done.
        """
        self.failures.check()
        if self._gave_up:
            what = f"{self._gave_up} times a benchmark did not wait for its verdict"
            remedy = "Run it again: the verdicts are stored, and given at once then"
            raise fail(reasons.JUDGE_UNAVAILABLE, WHERE, what, remedy)

    @property
    def usage(self) -> JudgeUsage:
        """What judging took so far, over all attempts of the run."""
        with self._lock:
            used, prices = self._usage, self._spec.prices
        cost = (used.input_tokens * prices.input + used.output_tokens * prices.output) / 1e6
        return used.model_copy(update={"cost": round(cost, 9)})

    def close(self, patience: float = CLOSE_SECONDS) -> None:
        """Ask for nothing more; what is with the judge is waited for, and kept."""
        self._ending.set()
        self._buyers.shutdown(wait=False, cancel_futures=True)
        wait(list(self._bought.values()), timeout=patience)

    def _buy(self, request: JudgeRequest, draw: int) -> Verdict:
        try:
            return self._bought_verdict(request, draw)
        except Closed:
            raise
        except EvalrunError as error:
            self.failures.add(error)
            self._ending.set()
            raise
        except Exception as error:
            log.exception("a verdict could not be had")
            what = f"a verdict could not be had ({type(error).__name__}: {error})"
            found = fail(reasons.JUDGE_UNAVAILABLE, WHERE, what)
            self.failures.add(found)
            self._ending.set()
            raise found from error

    def _bought_verdict(self, request: JudgeRequest, draw: int) -> Verdict:
        begun = time.monotonic()
        failures = 0
        while True:
            self._pay()
            answer: Answered | Failed | None = None
            try:
                answer = self._server.ask(request)
            finally:
                with self._lock:
                    self._asking -= 1
                    answered = isinstance(answer, Answered)
                    self._add(requests=1, failures=0 if answered else 1)
            if isinstance(answer, Answered):
                break
            failures += 1
            if answer.error is not None:
                raise answer.error
            pause = delay(failures, answer.retry_after, random.random())
            log.warning("the judge failed: %s", answer.what, extra={"again_in": round(pause, 1)})
            if time.monotonic() + pause - begun > self._patience:
                what = f"it failed {failures} times in a row; at last {answer.what}"
                raise fail(reasons.JUDGE_UNAVAILABLE, f"{WHERE}.endpoint", what)
            if self._ending.wait(pause):
                raise Closed
        tokens = tokens_of(answer.response)
        verdict = Verdict(
            request=request.digest,
            draw=draw,
            run=self._run,
            response=answer.response,
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            failures=failures,
            seconds=round(time.monotonic() - begun, 3),
        )
        with self._lock:
            self._add(input_tokens=tokens[0], output_tokens=tokens[1])
        self._keep(verdict)
        self._on_verdict()
        return verdict

    def _pay(self) -> None:
        """Take a request out of the budget; raises `EvalrunError` when it is used up."""
        budget, where = self._spec.budget, f"{WHERE}.budget"
        with self._lock:
            if self._ending.is_set():
                raise Closed
            used = self._usage
            tokens = used.input_tokens + used.output_tokens
            taken = used.requests + self._asking
            if budget.requests is not None and taken >= budget.requests:
                what = f"{taken} of {budget.requests} requests are used"
                raise fail(reasons.JUDGE_BUDGET_EXCEEDED, f"{where}.requests", what)
            if budget.tokens is not None and tokens >= budget.tokens:
                what = f"{tokens} of {budget.tokens} tokens are used"
                raise fail(reasons.JUDGE_BUDGET_EXCEEDED, f"{where}.tokens", what)
            self._asking += 1

    def _add(self, **counts: int) -> None:
        """Count; needs the lock."""
        sums = {name: getattr(self._usage, name) + count for name, count in counts.items()}
        self._usage = self._usage.model_copy(update=sums)
