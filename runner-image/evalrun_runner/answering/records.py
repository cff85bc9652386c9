"""The journal's records of what was asked: answers, and requests that failed for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_api.journal import Record
from evalrun_runner.answering.worth import Failed
from evalrun_runner.failures import printable
from evalrun_runner.given_secrets import without_secrets
from evalrun_runner.journal.reading import Index
from evalrun_runner.journal.request_list import Request

MAX_SAID = 300
"""Characters of a backend's own words that are kept with each failed answer."""


def records(
    answered: Sequence[tuple[Request, Any]],
    outcomes: Mapping[int, int],
    before: Index,
    seconds: float,
    **circumstances: Any,
) -> list[Record]:
    """The records of answers.

    outcomes: how many each had, this one included, by the request's id. before: of earlier starts.
    seconds: of each. circumstances: fields of `Record` that they share.
    """
    found = []
    for request, output in answered:
        earlier = before.answer_to(request)
        failures = earlier.attempts if earlier is not None and earlier.error is not None else 0
        attempts = failures + outcomes[id(request)]
        found.append(_record(request, output, attempts, seconds=seconds, **circumstances))
    return found


def failed_records(failed: Sequence[Failed], before: Index, **circumstances: Any) -> list[Record]:
    """The records of requests that failed for good, in this start; the next asks them again.

    What came back is kept if it is anything, since lmms-eval would have scored it: else an answer
    that says nothing, in the form that the scorer expects.
    """
    found = []
    for each in failed:
        earlier = before.answer_to(each.request)
        same = earlier is not None and earlier.error == each.error
        attempts = 1 + (earlier.attempts if earlier is not None and same else 0)
        output = _nothing(each.request.key.request_type) if each.output is None else each.output
        said = printable(each.said, MAX_SAID) or None
        found.append(
            _record(each.request, output, attempts, error=each.error, said=said, **circumstances)
        )
    return found


def _nothing(request_type: str) -> Any:
    """An answer that says nothing."""
    return (float("-inf"), False) if request_type == "loglikelihood" else ""


def _record(
    request: Request, output: Any, attempts: int, seconds: float = 0.0, **fields: Any
) -> Record:
    from evalrun_runner.harness.outputs import encode

    try:
        response, usage = encode(output)
    except TypeError as error:
        where = f"benchmark {request.task}, document {request.key.doc_id}"
        raise fail(reasons.BACKEND_UNUSABLE, where, str(error)) from error
    if "error" in fields:
        response = _without_secrets(response)
    return Record(
        **request.key._asdict(),
        fingerprint=request.fingerprint,
        response=response,
        tokens=usage,
        attempts=attempts,
        seconds=round(seconds, 6),
        **fields,
    )


def _without_secrets(response: Any) -> Any:
    """A failed answer as it is kept: it can be a server's refusal, which quotes the key."""
    if isinstance(response, str):
        return without_secrets(response)
    if isinstance(response, list):
        return [_without_secrets(entry) for entry in response]
    if isinstance(response, dict):
        return {key: _without_secrets(entry) for key, entry in response.items()}
    return response
