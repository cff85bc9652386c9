"""A worker's share: which chunks are its own, what the journal lacks of them, and asking for that.

The weights are loaded when the first request needs them, so a share whose answers are all there
never loads them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_api.lock import GroupLock, Lock
from evalrun_api.plan import SettingsGroup
from evalrun_runner import layout
from evalrun_runner.answering.asking import Asker
from evalrun_runner.answering.careful import CarefulAsker
from evalrun_runner.journal.answer_writer import AnswerWriter
from evalrun_runner.journal.reading import Index, read_index
from evalrun_runner.journal.request_list import (
    AGENTIC,
    Chunk,
    Request,
    by_task,
    chunks,
    combined,
    keyed,
)
from evalrun_runner.journal.visual_thought import KeptImages
from evalrun_runner.journal.writing import (
    MAX_UNSTORED_SECONDS,
    STOP_SECONDS,
    adopt,
    spool_folder,
)
from evalrun_runner.setting import Setting
from evalrun_runner.stopping import Stopped

log = logging.getLogger(__name__)


def answer_share(setting: Setting, lock: Lock, source: str) -> None:
    """Answer this process' share of what the journal lacks, and journal it.

    source: where the weights are, as the backend takes it.
    """
    plan, store, report = setting.plan, setting.store, setting.report
    prefix = layout.segments(plan.run.namespace, lock.answers)
    spool = spool_folder(setting.places.spool, f"{plan.store.endpoint} {store.uri('')}", prefix)
    adopted = adopt(store, prefix, spool)
    answers = read_index(store, prefix)
    log.info("journal read", extra={"answers": len(answers), "adopted_segments": adopted})
    images = KeptImages(store, plan.run.namespace, lock.answers, setting.places.work)
    writer = AnswerWriter(store, prefix, spool, setting.writer, images)
    try:
        asker = CarefulAsker(setting, answers, writer, source)
        share = _Share(setting, prefix, answers, asker, writer)
        for group, locked in zip(plan.groups, lock.groups, strict=True):
            share.answer_group(group, locked)
        setting.stop.raise_if_asked()
        with setting.stop.shielded():
            report.activity("storing finished answers")
            writer.close(MAX_UNSTORED_SECONDS)
    except BaseException as cause:  # also a signal that came just before the shield
        with setting.stop.shielded():
            report.activity("storing finished answers")
            try:
                writer.close(STOP_SECONDS)
            except Exception:
                log.exception("finished answers wait in the spool", extra={"spool": str(spool)})
                if isinstance(cause, Stopped):  # which promises that they are stored
                    raise
        raise  # what ended the run matters more
    reused, computed = report.counts
    log.info("answered", extra={"reused": reused, "computed": computed})


class _Share:
    """The chunks of this process."""

    def __init__(
        self, setting: Setting, prefix: str, answers: Index, asker: Asker, writer: AnswerWriter
    ) -> None:
        self._setting = setting
        self._prefix = prefix
        self._answers = answers
        self._asker = asker
        self._writer = writer

    def answer_group(self, group: SettingsGroup, locked: GroupLock) -> None:
        self._setting.report.activity(f"building the requests of {', '.join(group.tasks)}")
        documents = self._asker.documents

        def respond(request_type: str, instances: list[Any]) -> list[str]:
            self._setting.stop.raise_if_asked()  # a task may have swallowed it, and asks otherwise
            requests = keyed(group.name, request_type, instances)
            verify(requests, locked, documents)
            self._answer_list(request_type, requests, locked)
            return [""] * len(instances)  # nothing is scored in this step

        self._setting.evaluator.ask(group, respond, share_task_dict=documents)

    def _answer_list(self, request_type: str, requests: list[Request], locked: GroupLock) -> None:
        report = self._setting.report
        mine = [chunk for chunk in chunks(requests, locked.chunk_size) if self._is_mine(chunk)]
        missing = {chunk.number: self._missing(chunk) for chunk in mine}
        for task, of_task in by_task([r for chunk in mine for r in chunk.requests]).items():
            lacking = sum(
                len(missing[chunk.number]) for chunk in mine if chunk.requests[0].task == task
            )
            report.expect(task, len(of_task), len(of_task) - lacking)
        lacking_chunks = [chunk for chunk in mine if missing[chunk.number]]
        if request_type == AGENTIC:
            self._converse(
                [request for chunk in lacking_chunks for request in missing[chunk.number]]
            )
            return
        self._prefetch(lacking_chunks[:1], missing, locked.batch_size)
        for place, chunk in enumerate(lacking_chunks, start=1):
            self._prefetch(lacking_chunks[place : place + 1], missing, locked.batch_size)
            self._asker.ask(request_type, chunk, missing[chunk.number], locked.batch_size)
        self._prefetch([], missing, locked.batch_size)

    def _converse(self, missing: Sequence[Request]) -> None:
        """Hold the conversations that agentic requests ask for, one after another."""
        from evalrun_runner.answering.conversations import Conversations

        evaluator = self._setting.evaluator
        conversations = Conversations(
            self._setting, self._prefix, self._answers, self._asker, self._writer, evaluator.pin
        )
        for request in missing:
            conversations.hold(request)

    def _prefetch(
        self, upcoming: Sequence[Chunk], missing: Mapping[int, list[Request]], batch_size: int
    ) -> None:
        """Have media decoded for what will be asked of a chunk; of none, after the last."""
        alone = batch_size == 1 or self._setting.plan.is_remote
        asked = (missing[chunk.number] if alone else chunk.requests for chunk in upcoming)
        self._asker.prefetch([request for requests in asked for request in requests])

    def _is_mine(self, chunk: Chunk) -> bool:
        shards, workers = self._setting.plan.shards, self._setting.plan.workers
        shard, worker = self._setting.shard, self._setting.worker
        if shard is None and worker is None:
            return True
        return chunk.number % (shards * workers) == (shard or 0) + shards * (worker or 0)

    def _missing(self, chunk: Chunk) -> list[Request]:
        found = ((request, self._answers.answer_to(request)) for request in chunk.requests)
        return [request for request, answer in found if answer is None or not answer.is_final]


def verify(requests: list[Request], locked: GroupLock, documents: dict[str, Any]) -> None:
    """Refuse requests, or documents they are about, that differ from those prepare locked."""
    from evalrun_runner.harness.digests import documents_digest

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
