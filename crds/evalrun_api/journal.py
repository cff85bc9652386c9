"""The journal's record: one answer to one request, as a line of JSON in a segment.

A record is used only for the request it was made for: the key says which one, the fingerprint that
the prompt and the generation arguments are the same. Of two records for one request the one in the
segment of the smaller name counts, always, so that all readers agree.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from evalrun_api.document import Document, JsonValue, Sha256

RECORD_VERSION: Final = 1

ErrorClass = Literal["Empty", "RequestFailed", "BackendError", "OutOfMemory", "Stalled", "Crashed"]
"""How an answer fails to be one: it is empty; a server did not give it; the backend raised an
error, or logged one and swallowed it; memory ran out with the request alone in its batch; it took
longer than stallSeconds; the process that asked it died."""


class RequestKey(NamedTuple):
    """Which request of a run: unique within a settings group's evaluation.

    ordinal: position among requests that agree in all the rest (mutual-information multiple
        choice asks two questions under one idx).
    round: of an agentic request, whose rounds are journaled one by one.
    """

    group: str
    task: str
    request_type: str
    doc_id: int
    idx: int
    repeat: int
    ordinal: int
    round: int = 0


class TokenUsage(Document):
    """Tokens of one answer, as far as the backend reports them."""

    input: int | None = None
    output: int | None = None
    reasoning: int | None = None


class Record(Document):
    """One answer.

    fingerprint: first 32 hex digits of the sha256 over what the model was asked.
    response: string, [log-likelihood, is greedy], or list of strings (one a round).
    error: class of the failure, when the answer is one.
    said: what the backend said of the failure, cut.
    attempts: of an answer, how often its request was asked for it; of a failure, in how many starts
        in a row it failed so.
    seconds: share of the chunk's wall time.
    batch: in how large a batch it was asked, where that was smaller than planned.
    device: what answered, as torch names it.
    files: files that belong to the answer (images of a visual chain of thought): sha256 by the
        name that stands in the response. They lie beside the segments.
    """

    v: Literal[1] = RECORD_VERSION
    group: str
    task: str
    request_type: str
    doc_id: int
    idx: int
    repeat: int = 0
    ordinal: int = 0
    round: int = 0
    fingerprint: str
    response: JsonValue
    tokens: TokenUsage | None = None
    error: ErrorClass | None = None
    said: str | None = None
    attempts: int = 1
    seconds: float = 0.0
    batch: int | None = None
    device: str | None = None
    files: dict[str, Sha256] | None = None

    @property
    def key(self) -> RequestKey:
        """Which request it answers."""
        return RequestKey(
            self.group,
            self.task,
            self.request_type,
            self.doc_id,
            self.idx,
            self.repeat,
            self.ordinal,
            self.round,
        )
