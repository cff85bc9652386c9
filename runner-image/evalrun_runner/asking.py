"""Asking the model for a chunk's answers: what comes back, and what it is worth."""

from __future__ import annotations

import logging
import time
from typing import Any

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_api.journal import Record
from evalrun_runner.answers import Index
from evalrun_runner.failures import classify, describe
from evalrun_runner.journal import JournalWriter
from evalrun_runner.request_list import Chunk, Request
from evalrun_runner.setting import Setting

log = logging.getLogger(__name__)

DEAD_SERVER_REQUESTS = 16


class Asker:
    """The model, once it is loaded, and the journal that its answers go to.

    documents: lmms-eval's documents by task and split, where the backend looks them up.
    """

    def __init__(
        self, setting: Setting, answers: Index, writer: JournalWriter, source: str
    ) -> None:
        self.documents: dict[str, Any] = {}
        self._setting = setting
        self._answers = answers
        self._writer = writer
        self._source = source
        self._model: Any = None
        self._failed_in_a_row = 0

    def ask(self, request_type: str, chunk: Chunk, missing: list[Request], batch_size: int) -> None:
        """Ask for what is missing of a chunk, and journal the answers."""
        if self._model is None:
            self._load()
        # A batch's members can move each other's answers, so a batch is always asked whole; a
        # server answers each request alone.
        alone = batch_size == 1 or self._setting.plan.is_remote
        asked = missing if alone else list(chunk.requests)
        report = self._setting.report
        report.activity(f"answering {chunk.requests[0].task}")
        with self._setting.stop.chunk():
            begun = time.monotonic()
            with self._setting.stage("generate"):
                outputs = self._call(request_type, asked)
            seconds = time.monotonic() - begun
            found = records(asked, outputs, set(map(id, missing)), seconds, self._answers)
            self._writer.append(found)
            self._refuse_dead_server(found, outputs)
            report.computed(chunk.requests[0].task, len(missing))

    def _call(self, request_type: str, asked: list[Request]) -> Any:
        try:
            return getattr(self._model, request_type)([request.instance for request in asked])
        except Exception as error:
            where = f"benchmark {asked[0].task}, document {asked[0].key.doc_id} and following"
            what = f"backend {self._setting.plan.model.backend}: {describe(error)}"
            raise fail(classify(error, reasons.BACKEND_FAILED), where, what) from error

    def _refuse_dead_server(self, found: list[Record], outputs: list[Any]) -> None:
        """End when many requests in a row failed at the server: the rest would fare no better.

        Requests that failed in an earlier run do not count: one that always fails may not keep
        the others from being answered, or the run from being scored.
        """
        for record in found:
            if record.error != "RequestFailed":
                self._failed_in_a_row = 0
            elif record.attempts == 1:
                self._failed_in_a_row += 1
        if self._failed_in_a_row < DEAD_SERVER_REQUESTS:
            return
        from evalrun_runner.outputs import failure_of, text_of

        said = next(text_of(output) for output in outputs if failure_of(output))
        what = f"the server answered none of {self._failed_in_a_row} requests: {said[:500]}"
        remedy = "Check model.source.endpoint and the server; failed requests are asked again"
        raise fail(reasons.BACKEND_FAILED, f"benchmark {found[0].task}", what, remedy)

    def _load(self) -> None:
        from evalrun_runner.backend import construct

        report = self._setting.report
        report.activity("loading the model")
        with self._setting.stage("load"):
            self._model = construct(self._setting.plan, self._source)
            self._model.task_dict = self.documents
        log.info("model loaded", extra={"seconds": round(self._setting.seconds["load"], 3)})


def records(
    asked: list[Request], outputs: Any, wanted: set[int], seconds: float, before: Index
) -> list[Record]:
    """The journal records of a chunk's outputs, of those requests whose id is in `wanted`.

    before: earlier answers, which tell how often a request was asked.
    """
    from evalrun_runner.outputs import encode, failure_of

    if not isinstance(outputs, list) or len(outputs) != len(asked):
        count = len(outputs) if isinstance(outputs, list) else type(outputs).__name__
        raise fail(
            reasons.WRONG_ANSWER_COUNT,
            f"benchmark {asked[0].task}",
            f"the backend was asked {len(asked)} requests and returned {count} answers",
        )
    found = []
    for request, output in zip(asked, outputs, strict=True):
        if id(request) not in wanted:
            continue
        try:
            response, usage = encode(output)
        except TypeError as error:
            where = f"benchmark {request.task}, document {request.key.doc_id}"
            raise fail(reasons.BACKEND_UNUSABLE, where, str(error)) from error
        failure = failure_of(output)
        earlier = before.answer_to(request)
        same = earlier is not None and earlier.error == failure
        found.append(
            Record(
                **request.key._asdict(),
                fingerprint=request.fingerprint,
                response=response,
                tokens=usage,
                error=failure,
                attempts=1 + (earlier.attempts if earlier and same else 0),
                seconds=round(seconds / len(asked), 6),
            )
        )
    return found
