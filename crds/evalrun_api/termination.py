"""The termination message: what a pod leaves behind, whatever ends it.

It is rewritten at each phase, so that a pod that is killed leaves the last one. The kubelet keeps
4096 bytes.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from evalrun_api.document import Document
from evalrun_api.journal import ErrorClass
from evalrun_api.judge import JudgeUsage
from evalrun_api.manifest import Determinism
from evalrun_api.plan import RunIdentity
from evalrun_api.progress import Count, StepName
from evalrun_api.status import Score, StageSeconds

TERMINATION_VERSION: Final = 1
MAX_TERMINATION_BYTES = 4096


class TerminationMessage(Document):
    """The state of a step.

    outcome: Running until the process ends by its own will.
    reason: name of a reason of `evalrun_api.reasons`.
    results_uri, results_digest: address and sha256 of the manifest.
    trusted, determinism: as in the manifest; None before there is one.
    requests_total: of all benchmarks and shards; None before the run is locked.
    answered_before: answers that were in the journal when the run was locked.
    lmms_eval, model_revision: what prepare locked; a long revision is cut.
    seconds: where this process' time went; with several workers, their mean.
    errors: invalid answers by class. restarts: workers that were started anew.
    judge: what judging took.
    """

    version: Literal[1] = TERMINATION_VERSION
    run: RunIdentity
    step: StepName
    outcome: Literal["Running", "Succeeded", "Failed", "Stopped"]
    reason: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=2048)] = ""
    answers_digest: Annotated[str, Field(max_length=64)] | None = None
    reused: Count = 0
    computed: Count = 0
    invalid: Count = 0
    errors: dict[ErrorClass, Count] = Field(default_factory=dict)
    restarts: Count = 0
    judge: JudgeUsage | None = None
    scores: Annotated[list[Score], Field(max_length=10)] = Field(default_factory=list)
    results_uri: Annotated[str, Field(max_length=1024)] | None = None
    results_digest: Annotated[str, Field(max_length=64)] | None = None
    trusted: bool | None = None
    determinism: Determinism | None = None
    requests_total: Count | None = None
    answered_before: Count | None = None
    lmms_eval: Annotated[str, Field(max_length=64)] | None = None
    model_revision: Annotated[str, Field(max_length=512)] | None = None
    seconds: StageSeconds | None = None

    def encode(self) -> bytes:
        """The message as JSON of at most `MAX_TERMINATION_BYTES`.

        What does not fit is cut: scores first, then the text, then the address of the results.
        """
        message = self
        while len(raw := message.model_dump_json(by_alias=True, exclude_none=True).encode()) > (
            MAX_TERMINATION_BYTES
        ):
            if message.scores:
                message = message.model_copy(update={"scores": message.scores[:-1]})
            elif message.message:
                message = message.model_copy(
                    update={"message": message.message[: len(message.message) // 2]}
                )
            else:
                message = message.model_copy(update={"results_uri": None, "model_revision": None})
        return raw
