"""What the runner serves at /progress while it works. Untrusted input for whoever reads it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from evalrun_api.document import Document

PROGRESS_VERSION: Final = 1

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
    """

    version: Literal[1] = PROGRESS_VERSION
    step: StepName
    activity: Annotated[str, Field(max_length=300)]
    requests_done: Count = 0
    requests_total: Count = 0
    reused: Count = 0
    computed: Count = 0
    requests_per_second: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    eta_seconds: Seconds | None = None
    elapsed_seconds: Seconds = 0.0
    tasks: Annotated[list[TaskProgress], Field(max_length=2000)] = Field(default_factory=list)
