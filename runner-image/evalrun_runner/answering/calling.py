"""One call to the backend: what came back, and what it said meanwhile."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_api.plan import RunPlan
from evalrun_api.reasons import Reason
from evalrun_runner.answering.complaints import Complaints, Ear
from evalrun_runner.answering.worth import Verdict, failed_whole, judge
from evalrun_runner.failures import classify, describe, device_is_lost
from evalrun_runner.journal.request_list import Request
from evalrun_runner.stopping import Stopped
from evalrun_runner.workers.watchdog import Stalled

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Called:
    """What a call gave.

    outputs: one for each request, as it came; None for each where the call raised.
    said: errors that the backend raised or logged. reason: what a run ends with that dies of it.
    seconds: wall time.
    """

    outputs: list[Any]
    verdict: Verdict
    said: str
    reason: Reason
    seconds: float


class Caller:
    """A loaded model that can be asked."""

    def __init__(self, model: Any, plan: RunPlan) -> None:
        self._model = model
        self._remote = plan.is_remote
        self._backend = plan.model.backend
        self._ear = Ear(type(model).__module__)
        self._logged = ""

    def call(self, request_type: str, asked: Sequence[Request]) -> Called:
        """Ask for these requests at once.

        Raises `EvalrunError` for what no other call can mend: another number of answers than
        requests, a disk that is full, an accelerator that this process can use no more.
        """
        begun = time.monotonic()
        outputs: Any = None
        raised: str | None = None
        reason = reasons.BACKEND_FAILED
        with self._ear.listening() as complaints:
            try:
                outputs = getattr(self._model, request_type)(_copies(asked))
            except (Stopped, Stalled):
                raise
            except BaseException as error:  # noqa: BLE001  # sys.exit(0) and panics of Rust too
                # The error itself is not kept: its frames hold what has to be freed.
                raised, reason = self._raised(error), classify(error, reason)
        out_of_memory = not self._remote and (
            complaints.out_of_memory or reason is reasons.OUT_OF_MEMORY
        )
        where = f"benchmark {asked[0].task}, document {asked[0].key.doc_id} and following"
        self._refuse_what_cannot_be_mended(where, raised, reason, complaints)
        if raised is not None:
            verdict = failed_whole(len(asked), out_of_memory=out_of_memory)
            outputs = [None] * len(asked)
        elif not isinstance(outputs, list) or len(outputs) != len(asked):
            if not (out_of_memory and len(asked) > 1):  # else some answers fell to that
                count = len(outputs) if isinstance(outputs, list) else type(outputs).__name__
                raise fail(
                    reasons.WRONG_ANSWER_COUNT,
                    f"benchmark {asked[0].task}",
                    f"the backend was asked {len(asked)} requests and returned {count} answers",
                )
            verdict = failed_whole(len(asked), out_of_memory=True)
            outputs = [None] * len(asked)
        else:
            from evalrun_runner.harness.outputs import failure_of

            looks = [failure_of(output) for output in outputs]
            verdict = judge(looks, complaints, is_remote=self._remote)
        if out_of_memory:
            reason = reasons.OUT_OF_MEMORY
        said = "; ".join(filter(None, (raised, complaints.said)))
        return Called(outputs, verdict, said, reason, time.monotonic() - begun)

    def _raised(self, error: BaseException) -> str:
        """The error in words; its stack goes to the log, once for the same words."""
        words = describe(error)
        if words != self._logged:
            self._logged = words
            log.warning("the backend raised an error", exc_info=error)
        return words

    def _refuse_what_cannot_be_mended(
        self, where: str, raised: str | None, reason: Reason, complaints: Complaints
    ) -> None:
        said = f"backend {self._backend}: {raised or complaints.said}"
        if raised is not None and reason is reasons.DISK_FULL:
            raise fail(reason, where, said)
        if not self._remote and (complaints.device_lost or device_is_lost(raised or "")):
            raise fail(
                reasons.WORKER_FAILED,
                where,
                f"this process can use its accelerator no more; {said}",
                "Run it again: only unanswered requests are asked. If it is always the same "
                "document, the backend cannot take it",
            )


def _copies(asked: Sequence[Request]) -> list[Any]:
    """lmms-eval's instances, to be asked of a backend that changes the arguments it is given.

    Many pop `until` from the generation arguments; asked again with those it would be another
    question. A repeated request stays one object, as lmms-eval has it.
    """
    made: dict[int, Any] = {}
    for request in asked:
        instance = request.instance
        if id(instance) not in made:
            made[id(instance)] = copied = copy.copy(instance)
            if isinstance(instance.arguments, tuple):
                copied.arguments = tuple(
                    copy.deepcopy(entry) if isinstance(entry, dict) else entry
                    for entry in instance.arguments
                )
    return [made[id(request.instance)] for request in asked]
