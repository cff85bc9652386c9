"""The agentic requests of a worker's share: which rounds are there, and asking for the others."""

from __future__ import annotations

import logging
from collections.abc import Callable

from evalrun_api.journal import Record, RequestKey
from evalrun_runner.answering.asking import Asker
from evalrun_runner.harness.agentic import ROUND_TYPE, Conversation
from evalrun_runner.harness.outputs import UNREADABLE, decode
from evalrun_runner.journal.answer_writer import AnswerWriter
from evalrun_runner.journal.reading import Index, Outcome
from evalrun_runner.journal.request_list import Chunk, Request
from evalrun_runner.journal.segments import read_records
from evalrun_runner.setting import Setting

log = logging.getLogger(__name__)


class Conversations:
    """Holds them one after another; each round is journaled when it is answered.

    prefix: of the journal's segments. index: how the answers in it ended.
    pin: sets the random state that each begins with.
    """

    def __init__(
        self,
        setting: Setting,
        prefix: str,
        index: Index,
        asker: Asker,
        writer: AnswerWriter,
        pin: Callable[[], None],
    ) -> None:
        self._setting = setting
        self._prefix = prefix
        self._index = index
        self._asker = asker
        self._writer = writer
        self._pin = pin
        self._task = ""
        self._rounds: dict[tuple[RequestKey, str], Record] = {}

    def hold(self, request: Request) -> None:
        """Answer one agentic request, and journal it."""
        if request.task != self._task:
            self._task, self._rounds = request.task, self._journaled(request.task)
        self._setting.stop.raise_if_asked()
        self._pin()
        before = self._index.answer_to(request) or Outcome(None, 0)
        is_simple = self._setting.evaluator.model_type == "simple"
        conversation = Conversation(request, self._find, self._ask)
        record = conversation.hold(is_simple, self._asker.documents, before)
        self._writer.append([record])
        self._setting.report.computed(request.task, 1)
        if record.error is not None:
            self._setting.report.failed(record.error)

    def _journaled(self, task: str) -> dict[tuple[RequestKey, str], Record]:
        """The rounds of a task that need not be asked again. They are few, and short."""
        found: dict[tuple[RequestKey, str], Record] = {}
        for record in read_records(self._setting.store, self._prefix):
            final = Outcome(record.error, record.attempts).is_final
            if record.task == task and record.round and final and _is_sound(record):
                at = (record.key, record.fingerprint)
                if at not in found or found[at].error is not None:
                    found[at] = record
        return found

    def _find(self, asked: Request) -> Record | None:
        return self._rounds.get((asked.key, asked.fingerprint))

    def _ask(self, asked: Request) -> Record:
        self._asker.ask(ROUND_TYPE, Chunk(0, [asked]), [asked], 1)
        return self._writer.take_round(asked.key, asked.fingerprint)


def _is_sound(record: Record) -> bool:
    """Whether a round's answer can be read back; one that is damaged is asked again."""
    try:
        decode(record.response, record.tokens)
    except UNREADABLE:
        what = "a round's answer is damaged, and asked again"
        log.warning(what, extra={"task": record.task, "document": record.doc_id})
        return False
    return True
