"""What outputs are worth, and how large a batch is asked: decisions without a backend."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from evalrun_api import reasons
from evalrun_api.journal import RequestKey
from evalrun_runner.answering.batch_size import LONGEST_WAIT, BatchSize
from evalrun_runner.answering.complaints import Complaints
from evalrun_runner.answering.worth import (
    DEAD_REQUESTS,
    Failed,
    Streak,
    first_lists,
    judge,
    regroup,
)
from evalrun_runner.failures import classify
from evalrun_runner.journal.request_list import Request


def complaints(errors: int = 0, own: int = 0, **more: Any) -> Complaints:
    return Complaints(errors=errors, own=own, **more)


def requests(count: int) -> list[Request]:
    return [
        Request(RequestKey("g0", "t", "generate_until", doc, 0, 0, 0), f"{doc:032x}", object())
        for doc in range(count)
    ]


@pytest.mark.parametrize(
    ("failures", "heard", "remote", "errors", "attributed", "isolate"),
    [
        ([None, None], complaints(), False, [None, None], True, False),
        (["Empty", None], complaints(), False, ["Empty", None], True, False),
        (["Empty", None], complaints(1), False, ["BackendError", None], True, False),
        (["Empty", None], complaints(1, 1), False, ["BackendError", None], True, False),
        (
            ["Empty", None],
            complaints(1, 1, out_of_memory=True),
            False,
            ["OutOfMemory", None],
            True,
            True,
        ),
        # More errors than missing answers: one of the others is none either.
        (["Empty", None], complaints(2, 2), False, ["BackendError"] * 2, False, True),
        ([None], complaints(1, 1), False, ["BackendError"], True, False),
        # A library's error says nothing of an answer that is there.
        ([None, None], complaints(3, 0), False, [None, None], True, False),
        # What a server answered is there, whatever was logged.
        (["RequestFailed", None], complaints(9, 9), True, ["RequestFailed", None], True, False),
    ],
)
def test_the_log_explains_missing_answers_and_makes_others_doubtful(
    failures: list[Any],
    heard: Complaints,
    remote: bool,
    errors: list[Any],
    attributed: bool,
    isolate: bool,
) -> None:
    verdict = judge(failures, heard, is_remote=remote)
    assert (verdict.errors, verdict.attributed, verdict.isolate) == (errors, attributed, isolate)


def test_a_chunk_is_handed_over_whole_only_where_the_backend_batches_it_itself() -> None:
    chunk = requests(6)

    def documents(missing: list[Request], batch: int, constructed: int) -> list[list[int]]:
        lists = first_lists(chunk, missing, batch, constructed)
        return [[request.key.doc_id for request in part] for part in lists]

    assert documents([chunk[1], chunk[4]], 1, 1) == [[1, 4]]
    assert documents([chunk[1], chunk[4]], 1, 8) == [[1], [4]]
    assert documents([chunk[1]], 4, 4) == [[0, 1, 2, 3, 4, 5]]
    # A batch is asked whole, and only where something of it is missing.
    assert documents([chunk[1]], 4, 8) == [[0, 1, 2, 3]]
    assert documents([chunk[1], chunk[5]], 4, 8) == [[0, 1, 2, 3], [4, 5]]


def test_what_failed_at_a_server_is_asked_together_until_one_spoils_the_rest() -> None:
    failed = [Failed(request, "RequestFailed", "busy") for request in requests(5)]
    spoilt = [Failed(each.request, "BackendError", "", isolate=True) for each in failed]
    assert [len(part) for part in regroup(failed, is_remote=False)] == [1] * 5
    assert [len(part) for part in regroup(failed, is_remote=True)] == [5]
    assert [len(part) for part in regroup(spoilt, is_remote=True)] == [3, 2]
    assert regroup([], is_remote=True) == []


def test_a_batch_comes_back_at_once_after_one_chunk_and_slowly_after_two() -> None:
    size = BatchSize(8)
    size.end(2)
    assert size.begin() == 8, "mostly it was one large request"
    size.end(2)
    assert size.begin() == 2
    sizes = []
    for _ in range(6):
        sizes.append(size.begin())
        size.end(size.begin())
    assert sizes == [2, 2, 4, 8, 8, 8]
    size.end(4)
    assert size.begin() == 8, "it is as if nothing had been"


def test_a_batch_that_never_fits_is_tried_ever_more_rarely() -> None:
    size, tried = BatchSize(8), []
    for chunk in range(400):
        if size.begin() > 2:
            tried.append(chunk)
        size.end(min(size.begin(), 2))
    gaps = [later - earlier - 1 for earlier, later in itertools.pairwise(tried)]
    assert gaps[:6] == [0, 2, 4, 8, 16, 32]
    assert set(gaps[6:]) == {LONGEST_WAIT}


def test_a_streak_ends_with_an_answer_and_an_empty_one_is_no_fault() -> None:
    streak = Streak()
    for _ in range(DEAD_REQUESTS - 1):
        streak.failed("BackendError")
    assert streak.count == DEAD_REQUESTS - 1
    assert not streak.is_of_memory
    streak.failed("Empty")
    assert streak.count == 0
    streak.failed("OutOfMemory")
    assert streak.is_of_memory
    streak.answered()
    assert streak.count == 0


def test_an_error_that_is_its_own_cause_is_classified_and_not_followed_for_ever() -> None:
    error = RuntimeError("a backend's `raise error from error`")
    error.__cause__ = ValueError("once around")
    error.__cause__.__cause__ = error
    assert classify(error, reasons.BACKEND_FAILED) is reasons.BACKEND_FAILED
    error.__cause__.__cause__.__cause__ = ConnectionError("gone")
    assert classify(error, reasons.BACKEND_FAILED) is reasons.SOURCE_UNAVAILABLE
