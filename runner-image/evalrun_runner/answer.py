"""Answer: the step that holds accelerators, and the only one that loads weights.

It asks the model only what the journal lacks. The weights are loaded when the first request needs
them, so a run whose answers are all there never loads them.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_api.journal import Record
from evalrun_api.lock import GroupLock, Lock, answers_digest
from evalrun_api.plan import SettingsGroup
from evalrun_runner import layout, weights
from evalrun_runner.answers import Answer, Answers, read_answers
from evalrun_runner.failures import classify, describe
from evalrun_runner.journal import JournalWriter, adopt, spool_folder
from evalrun_runner.request_list import Chunk, Request, by_task, chunks, combined, keyed
from evalrun_runner.setting import Setting

log = logging.getLogger(__name__)

DEAD_SERVER_REQUESTS = 16


def answer(setting: Setting) -> None:
    """Answer this shard's share of what the journal lacks, and journal it."""
    plan, store, report = setting.plan, setting.store, setting.report
    report.enter("answer", "reading the journal")
    lock = setting.read_lock()
    source, revision = weights.locate(
        plan, setting.places, report.activity, locked=lock.model.revision
    )
    if revision != lock.model.revision:
        raise fail(
            reasons.LOCK_MISMATCH,
            "spec.model.source",
            f"the weights are {revision}, prepare locked {lock.model.revision}",
        )
    _check_versions(setting, lock)
    report.locked(lock)
    if setting.shard is None:  # a shard learns its share when the requests are built
        for task in (task for group in lock.groups for task in group.tasks):
            report.expect(task.name, task.requests)
    prefix = layout.segments(plan.run.namespace, lock.answers)
    spool = spool_folder(setting.places.spool, f"{plan.store.endpoint} {store.uri('')}", prefix)
    adopted = adopt(store, prefix, spool)
    answers = read_answers(store, prefix)
    log.info("journal read", extra={"answers": len(answers), "adopted_segments": adopted})
    writer = JournalWriter(store, prefix, spool, setting.writer)
    try:
        work = _Work(setting, lock, answers, writer, source)
        for group, locked in zip(plan.groups, lock.groups, strict=True):
            work.answer_group(group, locked)
        setting.stop.raise_if_asked()
    except BaseException:
        with setting.stop.shielded():
            report.activity("storing finished answers")
            try:
                writer.close()
            except Exception:  # what ended the run matters more
                log.exception("finished answers wait in the spool", extra={"spool": str(spool)})
        raise
    with setting.stop.shielded():
        report.activity("storing finished answers")
        writer.close()
    reused, computed = report.counts
    log.info("answered", extra={"reused": reused, "computed": computed})


class _Work:
    """Answering, with the model once it is loaded."""

    def __init__(
        self, setting: Setting, lock: Lock, answers: Answers, writer: JournalWriter, source: str
    ) -> None:
        self._setting = setting
        self._lock = lock
        self._answers = answers
        self._writer = writer
        self._source = source
        self._model: Any = None
        self._documents: dict[str, Any] = {}
        self._failed_in_a_row = 0

    def answer_group(self, group: SettingsGroup, locked: GroupLock) -> None:
        self._setting.report.activity(f"building the requests of {', '.join(group.tasks)}")

        def respond(request_type: str, instances: list[Any]) -> list[str]:
            requests = keyed(group.name, request_type, instances)
            verify(requests, locked, self._documents)
            self._answer_list(request_type, requests)
            return [""] * len(instances)  # nothing is scored in this step

        self._setting.evaluator.ask(group, respond, share_task_dict=self._documents)

    def _answer_list(self, request_type: str, requests: list[Request]) -> None:
        report = self._setting.report
        mine = [chunk for chunk in chunks(requests, self._lock.chunk_size) if self._is_mine(chunk)]
        missing = {chunk.number: self._missing(chunk) for chunk in mine}
        for task, of_task in by_task([r for chunk in mine for r in chunk.requests]).items():
            report.expect(task, len(of_task))
            lacking = sum(
                len(missing[chunk.number]) for chunk in mine if chunk.requests[0].task == task
            )
            report.reused(task, len(of_task) - lacking)
        for chunk in mine:
            if missing[chunk.number]:
                self._answer_chunk(request_type, chunk, missing[chunk.number])

    def _is_mine(self, chunk: Chunk) -> bool:
        shard = self._setting.shard
        return shard is None or chunk.number % self._setting.plan.shards == shard

    def _missing(self, chunk: Chunk) -> list[Request]:
        found = ((request, answer_to(self._answers, request)) for request in chunk.requests)
        return [request for request, answer in found if answer is None or not answer.is_final]

    def _answer_chunk(self, request_type: str, chunk: Chunk, missing: list[Request]) -> None:
        if self._model is None:
            self._load()
        # A batch's members can move each other's answers, so a batch is always asked whole; a
        # server answers each request alone.
        alone = self._lock.batch_size == 1 or self._setting.plan.is_remote
        asked = missing if alone else list(chunk.requests)
        report = self._setting.report
        report.activity(f"answering {chunk.requests[0].task}")
        with self._setting.stop.chunk():
            begun = time.monotonic()
            with self._setting.stage("generate"):
                outputs = self._ask(request_type, asked)
            seconds = time.monotonic() - begun
            found = records(asked, outputs, set(map(id, missing)), seconds, self._answers)
            self._writer.append(found)
            self._refuse_dead_server(found, outputs)
            report.computed(chunk.requests[0].task, len(missing))

    def _ask(self, request_type: str, asked: list[Request]) -> Any:
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
            self._model.task_dict = self._documents
        log.info("model loaded", extra={"seconds": round(self._setting.seconds["load"], 3)})


def _check_versions(setting: Setting, lock: Lock) -> None:
    """Refuse to answer with other packages, or for another plan, than the lock's."""
    from evalrun_runner.prepare import package_versions

    found = package_versions(setting.plan)
    if found != lock.versions:
        differing = ", ".join(
            f"{name} {found.get(name)} (locked {lock.versions.get(name)})"
            for name in sorted(found.keys() | lock.versions)
            if found.get(name) != lock.versions.get(name)
        )
        raise fail(
            reasons.LOCK_MISMATCH,
            "packages of this image",
            f"they are not those that prepare locked: {differing}",
            "Use one image for prepare and answer",
        )
    same_groups = len(setting.plan.groups) == len(lock.groups)
    if not same_groups or lock.answers != answers_digest(
        setting.plan, lock.model, lock.versions, lock.groups
    ):
        raise fail(reasons.LOCK_MISMATCH, "plan.json", "the lock belongs to another plan")


def answer_to(answers: Answers, request: Request) -> Answer | None:
    """What the journal holds for exactly this request."""
    return answers.get((request.key, request.fingerprint))


def verify(requests: list[Request], locked: GroupLock, documents: dict[str, Any]) -> None:
    """Refuse requests, or documents they are about, that differ from those prepare locked."""
    from evalrun_runner.documents import documents_digest

    known = {task.name: task for task in locked.tasks}
    for task, of_task in by_task(requests).items():
        if task not in known or known[task].fingerprint != combined(of_task):
            raise fail(
                reasons.LOCK_MISMATCH,
                f"benchmark {task}",
                "its prompts are not those that prepare locked",
            )
        split = of_task[0].instance.metadata["split"]
        if known[task].data != documents_digest(documents[task][split]):
            raise fail(
                reasons.LOCK_MISMATCH,
                f"benchmark {task}",
                "its documents are not those that prepare locked",
            )


def records(
    asked: list[Request], outputs: Any, wanted: set[int], seconds: float, before: Answers
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
        earlier = answer_to(before, request)
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
