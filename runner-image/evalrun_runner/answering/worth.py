"""What the outputs of one call to a backend are worth, and what to do about the rest: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalrun_api.journal import ErrorClass
from evalrun_runner.answering.complaints import Complaints
from evalrun_runner.journal.request_list import Request

DEAD_REQUESTS = 16
"""Requests in a row without one answer, for a cause that lies with the backend: it is dead."""


@dataclass(frozen=True)
class Failed:
    """A request that a call gave no answer to.

    said: what the backend said of it. output: what came back all the same.
    isolate: as in `Verdict`.
    """

    request: Request
    error: ErrorClass
    said: str
    output: Any = None
    isolate: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the outputs of a call are.

    errors: of each output, in order; None where it is an answer.
    attributed: whether each failure is the request's own; else it can be that of another one.
    isolate: whether what failed has to be asked apart from the others, whatever the retries.
    """

    errors: list[ErrorClass | None]
    attributed: bool = True
    isolate: bool = False

    @property
    def answered(self) -> int:
        """How many were answered; an empty answer is no sign of a fault."""
        return sum(error in (None, "Empty") for error in self.errors)


def judge(
    failures: Sequence[ErrorClass | None], complaints: Complaints, *, is_remote: bool
) -> Verdict:
    """What the outputs of a call that returned are worth.

    failures: what they look like by themselves, in order.

    An error that the backend logged explains an empty answer. More of its own errors than missing
    answers: one of the answers that do look like one is not, or rests on less than it should. A
    server's answers come whole or not at all, so there such an error is about none of them.
    """
    failed = sum(failure is not None for failure in failures)
    out_of_memory = complaints.out_of_memory and not is_remote
    explained: ErrorClass = "Empty"
    if out_of_memory:
        explained = "OutOfMemory"
    elif complaints.errors:
        explained = "BackendError"
    doubtful = complaints.own > failed and not is_remote
    errors = [
        explained if failure == "Empty" or (failure is None and doubtful) else failure
        for failure in failures
    ]
    several = len(errors) > 1
    return Verdict(errors, not (several and doubtful), several and (doubtful or out_of_memory))


def failed_whole(requests: int, *, out_of_memory: bool) -> Verdict:
    """What it means that a call raised an exception: any of its requests can be the cause."""
    error: ErrorClass = "OutOfMemory" if out_of_memory else "BackendError"
    return Verdict([error] * requests, attributed=requests == 1, isolate=requests > 1)


def regroup(failed: Sequence[Failed], *, is_remote: bool) -> list[list[Request]]:
    """How to ask again for what failed: one by one.

    A server answers each request alone however many it is sent, so those go together; where one of
    them may have spoilt the others, in halves until it is found.
    """
    requests = [each.request for each in failed]
    if not is_remote:
        return cut(requests, 1)
    if any(each.isolate for each in failed):
        return cut(requests, (len(requests) + 1) // 2)
    return [requests] if requests else []


def cut(requests: Sequence[Request], size: int) -> list[list[Request]]:
    """Requests in lists of at most `size`, in order."""
    return [list(requests[start : start + size]) for start in range(0, len(requests), size)]


def first_lists(
    requests: Sequence[Request], missing: Sequence[Request], batch: int, constructed: int
) -> list[list[Request]]:
    """What to hand to a backend, call by call, for a chunk that is asked as planned.

    requests: the chunk. missing: what is wanted of it. batch: how many are to be answered at once.
    constructed: how many the backend answers at once of a longer list.

    A batch's members can move each other's answers, so a batch is asked whole, and a backend that
    sorts and batches for itself gets the whole chunk.
    """
    if batch == 1:
        return [list(missing)] if constructed == 1 else cut(missing, 1)
    if batch == constructed:
        return [list(requests)]
    wanted = set(map(id, missing))
    return [part for part in cut(requests, batch) if wanted & set(map(id, part))]


class Streak:
    """Failures in a row that lie with the backend, over chunks without a single answer."""

    def __init__(self) -> None:
        self._errors: Counter[ErrorClass] = Counter()

    def answered(self) -> None:
        """There was an answer."""
        self._errors.clear()

    def failed(self, error: ErrorClass) -> None:
        """A request has failed for good, the first time. An empty answer is no sign of a fault."""
        if error == "Empty":
            self._errors.clear()
        else:
            self._errors[error] += 1

    def would_end(self, failed: Sequence[Failed]) -> bool:
        """Whether these would be too many, if they all failed for good."""
        ours = all(each.error != "Empty" and not each.isolate for each in failed)
        return ours and len(failed) > 1 and self.count + len(failed) >= DEAD_REQUESTS

    @property
    def count(self) -> int:
        """How many."""
        return self._errors.total()

    @property
    def is_of_memory(self) -> bool:
        """Whether most of them ran out of memory."""
        return 2 * self._errors["OutOfMemory"] > self.count
