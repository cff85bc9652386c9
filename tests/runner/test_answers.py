"""The journal's readers: which answer counts, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_samples import PREFIX, Outage, put, record, request

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError
from evalrun_api.journal import RequestKey
from evalrun_runner.journal.reading import Index, count_answered, read_answers, read_index
from evalrun_runner.journal.request_list import Request
from evalrun_runner.journal.segments import pack, read_segment
from evalrun_runner.stores import FolderStore

pytestmark = pytest.mark.decisions


@pytest.fixture
def store(tmp_path: Path) -> Outage:
    return Outage(tmp_path / "store")


def test_a_good_answer_counts_before_a_failed_one_whatever_the_names(store: Outage) -> None:
    failed = record(0, "").model_copy(update={"error": "Empty", "attempts": 1})
    store.put(f"{PREFIX}a.jsonl.zst", pack(failed.model_dump_json().encode() + b"\n"))
    (answer,) = read_answers(store, PREFIX).values()
    assert not answer.is_final
    twice = failed.model_copy(update={"attempts": 2})
    store.put(f"{PREFIX}b.jsonl.zst", pack(twice.model_dump_json().encode() + b"\n"))
    (answer,) = read_answers(store, PREFIX).values()
    assert answer.is_final, "a model may say nothing; it is asked twice, not for ever"
    store.put(f"{PREFIX}c.jsonl.zst", pack(record(0).model_dump_json().encode() + b"\n"))
    (answer,) = read_answers(store, PREFIX).values()
    assert answer.response == "red"


def test_an_answer_to_another_prompt_does_not_hide_the_right_one(store: Outage) -> None:
    other = record(0, "blue").model_copy(update={"fingerprint": "0" * 32})
    store.put(f"{PREFIX}a.jsonl.zst", pack(other.model_dump_json().encode() + b"\n"))
    store.put(f"{PREFIX}b.jsonl.zst", pack(record(0).model_dump_json().encode() + b"\n"))
    assert read_answers(store, PREFIX)[record(0).key, "f" * 32].response == "red"


def test_the_smaller_segment_name_wins_whatever_was_written_first(store: Outage) -> None:
    store.put(f"{PREFIX}b-1.jsonl.zst", pack(record(0, "late").model_dump_json().encode() + b"\n"))
    store.put(f"{PREFIX}a-1.jsonl.zst", pack(record(0, "early").model_dump_json().encode() + b"\n"))
    (answer,) = read_answers(store, PREFIX).values()
    assert answer.response == "early"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_torn_segment_gives_whole_records_only(share: float) -> None:
    lines = b"".join(
        record(n, f"answer {n * 7919}").model_dump_json().encode() + b"\n" for n in range(500)
    )
    whole = pack(lines)
    found = list(read_segment(whole[: int(len(whole) * share)], "segment"))
    assert [entry.doc_id for entry in found] == list(range(len(found)))
    assert len(found) < 500


def test_the_index_says_what_the_answers_say(store: Outage) -> None:
    failed = record(1, "").model_copy(update={"error": "Empty", "attempts": 1})
    put(store, "a", failed, record(2), record(3).model_copy(update={"round": 2}))
    put(store, "b", record(1).model_copy(update={"fingerprint": "0" * 32}), failed)
    put(store, "c", failed.model_copy(update={"attempts": 2}), record(2, "later"))
    answers, index = read_answers(store, PREFIX), read_index(store, PREFIX)
    assert len(index) == len(answers) == 4
    for (key, fingerprint), answer in answers.items():
        outcome = index.answer_to(Request(key, fingerprint, None))
        assert outcome == answer.outcome
        assert outcome.is_final is answer.is_final
    assert index.answer_to(request(3)) is None, "another round answers another question"
    assert index.answer_to(request(1)) == ("Empty", 2)
    assert count_answered(store, PREFIX) == 3, "a round is part of a request"


@given(keys=st.lists(st.from_type(RequestKey), min_size=2, max_size=2, unique=True))
def test_two_requests_are_never_taken_for_one(keys: list[RequestKey]) -> None:
    index = Index()
    first, second = keys
    entry = record(0).model_copy(update=first._asdict()).model_dump(by_alias=True)
    index.add(entry)
    assert index.answer_to(Request(first, "f" * 32, None)) is not None
    assert index.answer_to(Request(second, "f" * 32, None)) is None


def test_only_the_answers_of_the_tasks_that_are_asked_for_are_kept(store: Outage) -> None:
    put(store, "a", record(0), record(1).model_copy(update={"task": "other"}))
    assert {key.task for key, _ in read_answers(store, PREFIX, {"other"})} == {"other"}
    assert len(read_answers(store, PREFIX)) == 2


GOOD = record(0).model_dump_json(by_alias=True)


@pytest.mark.parametrize("read", [read_answers, read_index])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "it is not a journal record"),
        ("", "it is not a journal record"),
        ("[]", "it is not a journal record"),
        (f"{GOOD},{GOOD}", "it is not a journal record"),
        (GOOD.replace('"docId":0', '"docId":"x"'), "it is not a journal record"),
        (GOOD.replace('"docId":0,', ""), "it is not a journal record"),
        (GOOD.replace("{", '{"surprise":1,', 1), "it is not a journal record"),
        (GOOD.replace('"error":null', '"error":"Bored"'), "it is not a journal record"),
        (GOOD.replace('"v":1', '"v":2'), "has format 2, this release reads 1.* or a later one"),
        (GOOD.replace('"v":1', '"v":0'), "has format 0, this release reads 1"),
    ],
)
def test_what_is_no_record_of_this_release_is_refused_with_its_line(
    store: Outage, read: Callable[[FolderStore, str], object], line: str, said: str
) -> None:
    lines = [GOOD] * 300 + [line, GOOD]
    store.put(f"{PREFIX}a.jsonl.zst", pack("\n".join(lines).encode() + b"\n"))
    with pytest.raises(EvalrunError, match=rf"a\.jsonl\.zst, line 301: .*{said}") as raised:
        read(store, PREFIX)
    assert raised.value.reason is reasons.CORRUPT_JOURNAL


def test_a_segment_that_cannot_be_unpacked_is_refused(store: Outage) -> None:
    put(store, "a", *map(record, range(200)))
    data = bytearray(store.get(f"{PREFIX}a.jsonl.zst") or b"")
    data[len(data) // 2] ^= 0xFF
    store.put(f"{PREFIX}a.jsonl.zst", bytes(data))
    with pytest.raises(EvalrunError, match=r"a\.jsonl\.zst: it"):
        read_index(store, PREFIX)


def test_a_store_that_fails_while_a_journal_is_opened_is_tried_again(store: Outage) -> None:
    put(store, "a", record(0))
    store.failing_reads = 2
    assert len(read_index(store, PREFIX)) == 1


def test_what_is_no_segment_is_not_read(store: Outage) -> None:
    put(store, "a", record(0))
    store.put(f"{PREFIX}README", b"what people put anywhere")
    assert len(read_index(store, PREFIX)) == 1
