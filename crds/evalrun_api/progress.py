"""What the runner serves at /progress while it works. Untrusted input for whoever reads it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from evalrun_api.document import Document
from evalrun_api.journal import ErrorClass

PROGRESS_VERSION: Final = 1
MAX_BODY_BYTES: Final = 128 * 1024
"""Of what is served; a reader takes no more."""

StepName = Literal["prepare", "answer", "score"]
Count = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]


class TaskProgress(Document):
    """How far one task is."""

    name: Annotated[str, Field(max_length=300)]
    requests_done: Count
    requests_total: Count


class Progress(Document):
    """How far a runner is.

    activity: what it does now, in a few words.
    requests_done: reused and computed ones, of this process' share.
    requests_per_second: of computed answers, over the last half minute.
    errors: answers that failed for good, by class.
    restarts: workers that were started anew.
    """

    version: Literal[1] = PROGRESS_VERSION
    step: StepName
    activity: Annotated[str, Field(max_length=300)]
    requests_done: Count = 0
    requests_total: Count = 0
    reused: Count = 0
    computed: Count = 0
    errors: dict[ErrorClass, Count] = Field(default_factory=dict)
    restarts: Count = 0
    requests_per_second: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    eta_seconds: Seconds | None = None
    elapsed_seconds: Seconds = 0.0
    tasks: Annotated[list[TaskProgress], Field(max_length=2000)] = Field(default_factory=list)

    def body(self) -> bytes:
        """As it is served: with as many tasks as fit, the first ones. The totals are of all."""
        served = self
        while True:
            text = served.model_dump_json(by_alias=True, exclude_none=True).encode()
            if len(text) <= MAX_BODY_BYTES or not served.tasks:
                return text
            served = served.model_copy(update={"tasks": served.tasks[: len(served.tasks) // 2]})
