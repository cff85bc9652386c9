"""manifest.json: the last object a run writes. A run without it has no result."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from evalrun_api.document import Document, Sha256
from evalrun_api.journal import ErrorClass
from evalrun_api.judge import JudgeUsage
from evalrun_api.plan import RunIdentity
from evalrun_api.status import Score, StageSeconds

MANIFEST_VERSION: Final = 1

Determinism = Literal["Exact", "Batched", "Mixed", "Sampled", "Remote"]
"""What could still move an answer of a run: nothing, the batch it shared, circumstances that were
not planned (a batch made smaller, a request asked again alone, more than one kind of accelerator),
a random draw, or a server that we do not see into."""


class FileEntry(Document):
    """An object of the run, addressed relative to the manifest."""

    path: str
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class SampleFile(FileEntry):
    """The documents' answers and metrics of one task."""

    task: str


class GroupResults(Document):
    """What one settings group produced.

    submissions: files that tasks write for a benchmark's own server.
    """

    name: str
    results: FileEntry
    samples: list[SampleFile] = Field(default_factory=list)
    submissions: list[FileEntry] = Field(default_factory=list)


class TaskAnswers(Document):
    """Where the answers of one task came from.

    invalid: answers that are errors or empty strings. errors: the same by class.
    """

    task: str
    requests: int
    invalid: int
    errors: dict[ErrorClass, int] = Field(default_factory=dict)


class AnswerCounts(Document):
    """Where all answers came from."""

    total: int
    reused: int
    computed: int
    invalid: int
    errors: dict[ErrorClass, int] = Field(default_factory=dict)
    tasks: list[TaskAnswers] = Field(default_factory=list)


class Circumstances(Document):
    """How answers were made otherwise than planned.

    smaller_batch: answers asked in a smaller batch, after memory ran out.
    asked_again: answers that a request gave only when asked again.
    devices: what answered, by name.
    """

    smaller_batch: int = 0
    asked_again: int = 0
    devices: list[str] = Field(default_factory=list)


class Provenance(Document):
    """What the scores rest on."""

    versions: dict[str, str]
    model_revision: str
    determinism: Determinism
    circumstances: Circumstances = Field(default_factory=Circumstances)


class Manifest(Document):
    """What a run produced.

    plan: sha256 of plan.json. answers_digest: where the answers are.
    trusted: whether every benchmark is within integrity.maxInvalidFraction.
    judge: what judging took; None without a judge.
    """

    version: Literal[1] = MANIFEST_VERSION
    run: RunIdentity
    plan: Sha256
    answers_digest: Sha256
    completed_at: datetime
    groups: list[GroupResults]
    scores: list[Score]
    answers: AnswerCounts
    trusted: bool
    provenance: Provenance
    judge: JudgeUsage | None = None
    seconds: StageSeconds
