"""Asking the model for a chunk's answers, and asking again for those that are none.

What is worth what is decided in `worth` and `batch_size`; this does it.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.journal import ErrorClass, Record
from evalrun_runner.answering import worth
from evalrun_runner.answering.batch_size import BatchSize
from evalrun_runner.answering.calling import Caller
from evalrun_runner.answering.prefetch import Prefetcher, allowed_bytes
from evalrun_runner.answering.records import failed_records, records
from evalrun_runner.answering.worth import DEAD_REQUESTS, Failed
from evalrun_runner.given_secrets import without_secrets
from evalrun_runner.harness.device import free_memory, name_of_device
from evalrun_runner.journal.reading import Index
from evalrun_runner.journal.request_list import Chunk, Request
from evalrun_runner.journal.writing import JournalWriter
from evalrun_runner.setting import Setting

log = logging.getLogger(__name__)

MAX_SAID = 500
"""Characters of a backend's own words in the log and in the message that ends a run."""


@dataclass
class _Case:
    """A chunk in hand.

    wanted: ids of the requests that lack an answer. planned: how many were to be answered at once;
    None where a server decides. tries: how often each was asked, by id. outcomes: how often that
    had an outcome that was its own. answered: whether there was an answer.
    """

    request_type: str
    task: str
    wanted: set[int]
    planned: int | None
    tries: Counter[int] = field(default_factory=Counter)
    outcomes: Counter[int] = field(default_factory=Counter)
    answered: bool = False

    def smaller(self, batch: int | None) -> int | None:
        """The batch, where it is smaller than planned."""
        return batch if batch and self.planned and batch < self.planned else None


class Asker:
    """The model, once it is loaded, and the journal that its answers go to.

    documents: lmms-eval's documents by task and split, where the backend looks them up.
    """

    def __init__(
        self, setting: Setting, answers: Index, writer: JournalWriter, source: str
    ) -> None:
        self.documents: dict[str, Any] = {}
        self._setting = setting
        self._plan = setting.plan
        self._answers = answers
        self._writer = writer
        self._source = source
        self._caller: Caller | None = None
        self._device: str | None = None
        self._reason = reasons.BACKEND_FAILED
        self._streak = worth.Streak()
        self._logged: tuple[ErrorClass, str] | None = None
        self._sizes: dict[tuple[str, int], BatchSize] = {}
        self._prefetcher = Prefetcher(self.documents, allowed_bytes(os.environ))

    def ask(
        self,
        request_type: str,
        chunk: Chunk,
        missing: list[Request],
        batch_size: int,
        *,
        alone: bool = False,
    ) -> None:
        """Ask for what is missing of a chunk, and journal the answers as they come.

        batch_size: how many are to be answered at once. alone: whether to ask one by one instead.
        """
        if self._caller is None:
            self._caller = self._load()
        task, remote = chunk.requests[0].task, self._plan.is_remote
        wanted = set(map(id, missing))
        case = _Case(request_type, task, wanted, None if remote else batch_size)
        self._setting.report.activity(f"answering {task}")
        with self._setting.stop.chunk():
            if remote or alone:
                failed: list[Failed] = []
                for part in worth.cut(missing, 1 if alone else len(missing)):
                    failed += self._call(case, part, 1 if alone else None)
            else:
                sizes = self._sizes.setdefault((task, batch_size), BatchSize(batch_size))
                failed = self._ask_batches(case, chunk.requests, missing, sizes)
            self._ask_again(case, failed)

    def prefetch(self, requests: Sequence[Request]) -> None:
        """Decode the media of what is asked after the next chunk, while that is answered."""
        self._prefetcher.chunk(requests)

    def give_up(
        self, request_type: str, requests: Sequence[Request], error: ErrorClass, said: str
    ) -> None:
        """Journal requests as failed without asking them, because asking has ended a process."""
        failed = [Failed(request, error, said) for request in requests]
        if failed:
            self._journal_failed(_Case(request_type, requests[0].task, set(), None), failed)

    def _ask_batches(
        self, case: _Case, requests: Sequence[Request], missing: list[Request], sizes: BatchSize
    ) -> list[Failed]:
        """Ask in the planned batches, in smaller ones when memory runs out; what failed."""
        size = sizes.begin()
        if size == sizes.planned:
            lists = worth.first_lists(requests, missing, size, self._plan.batch_size)
        else:
            lists = worth.cut(missing, size)
        failed: list[Failed] = []
        while lists:
            asked, *lists = lists
            found = self._call(case, asked, None if size == sizes.planned else len(asked))
            at_once = min(size, len(asked))
            if at_once > 1 and any(each.error == "OutOfMemory" for each in found):
                size = at_once // 2
                rest = [each.request for each in found]
                rest += [entry for part in lists for entry in part if id(entry) in case.wanted]
                lists = worth.cut(rest, size)
                log.warning("memory ran out, so the batch is smaller", extra={"batch": size})
            else:
                failed += found
        sizes.end(size)
        return failed

    def _ask_again(self, case: _Case, failed: Sequence[Failed]) -> None:
        """Ask for what failed again, as often as the plan says; then it has failed for good."""
        again: list[Failed] = []
        final: list[Failed] = []
        for each in failed:
            left = case.tries[id(each.request)] <= self._plan.integrity.retries
            (again if left or each.isolate else final).append(each)
        self._give_up(case, final)
        if not case.answered and self._streak.would_end(again):
            first, *rest = again  # a backend that is dead is not asked hundreds of times more
            if found := self._call(case, [first.request], 1):
                self._give_up(case, [*found, *rest])
                return
            again = rest
        for requests in worth.regroup(again, is_remote=self._plan.is_remote):
            self._ask_again(case, self._call(case, requests, 1))

    def _call(self, case: _Case, asked: list[Request], batch: int | None) -> list[Failed]:
        """Ask once; journal the answers, and return those of the wanted requests that failed.

        batch: how many are asked at once; None for as many as planned.
        """
        assert self._caller is not None
        self._setting.stop.raise_if_asked()
        with self._setting.stage("generate"), self._setting.asking(asked):
            called = self._caller.call(case.request_type, asked)
            self._setting.stop.raise_if_swallowed()
            self._setting.hand.answered(called.verdict.answered)
        self._setting.count_decoding(self._prefetcher.seconds)
        case.tries.update(map(id, asked))
        if called.verdict.attributed:
            case.outcomes.update(map(id, asked))
        good: list[tuple[Request, Any]] = []
        failed: list[Failed] = []
        for request, output, error in zip(
            asked, called.outputs, called.verdict.errors, strict=True
        ):
            if id(request) not in case.wanted:
                continue
            if error is None:
                good.append((request, output))
            else:
                said = _said(output) if error == "RequestFailed" else called.said
                failed.append(Failed(request, error, said, output, called.verdict.isolate))
        if good:
            case.answered = True
            self._streak.answered()
            seconds = called.seconds / len(asked)
            smaller = case.smaller(batch)
            self._append(
                case,
                records(
                    good, case.outcomes, self._answers, seconds, batch=smaller, device=self._device
                ),
            )
        if failed:
            self._reason = called.reason
            self._log(failed)
            if any(each.error == "OutOfMemory" for each in failed):
                free_memory()
        return failed

    def _give_up(self, case: _Case, failed: Sequence[Failed]) -> None:
        """Journal requests as failed, and end when there are too many in a row.

        Requests that failed in an earlier start do not count: one that always fails may not keep
        the others from being answered, or the run from being scored.
        """
        if not failed:
            return
        self._journal_failed(case, failed)
        for each in failed:
            earlier = self._answers.answer_to(each.request)
            if not case.answered and (earlier is None or earlier.error is None):
                self._streak.failed(each.error)
        if self._streak.count >= DEAD_REQUESTS:
            raise self._dead(case, failed[-1].said)

    def _dead(self, case: _Case, said: str) -> EvalrunError:
        count = self._streak.count
        if self._plan.is_remote:
            what = f"the server answered none of {count} requests: {said[:MAX_SAID]}"
            remedy = "Check model.source.endpoint and the server; failed requests are asked again"
            return fail(reasons.BACKEND_FAILED, f"benchmark {case.task}", what, remedy)
        backend = self._plan.model.backend
        what = f"backend {backend} failed on {count} requests in a row: {said[:MAX_SAID]}"
        reason = reasons.OUT_OF_MEMORY if self._streak.is_of_memory else self._reason
        return fail(reason, f"benchmark {case.task}", what)

    def _journal_failed(self, case: _Case, failed: Sequence[Failed]) -> None:
        self._append(case, failed_records(failed, self._answers, device=self._device))
        whole = [each.error for each in failed if not each.request.key.round]
        for error, count in Counter(whole).items():
            self._setting.report.failed(error, count)

    def _append(self, case: _Case, found: list[Record]) -> None:
        self._writer.append(found)
        whole = sum(record.round == 0 for record in found)  # a round is part of a request
        self._setting.report.computed(case.task, whole)

    def _log(self, failed: Sequence[Failed]) -> None:
        """One line for what a call did not answer, unless the one before says the same."""
        first = failed[0]
        told = (first.error, first.said[:MAX_SAID])
        if told == self._logged:
            return
        self._logged = told
        extra = {"task": first.request.task, "document": first.request.key.doc_id, "said": told[1]}
        log.warning("no answer to %d requests: %s", len(failed), first.error, extra=extra)

    def _load(self) -> Caller:
        from evalrun_runner.harness.backend import construct

        report = self._setting.report
        report.activity("loading the model")
        with self._setting.stage("load"):
            model = construct(self._plan, self._source)
            model.task_dict = self._prefetcher.view
        self._device = name_of_device(self._plan)
        log.info("model loaded", extra={"seconds": round(self._setting.seconds["load"], 3)})
        return Caller(model, self._plan)


def _said(output: Any) -> str:
    from evalrun_runner.harness.outputs import text_of

    return without_secrets(text_of(output))
