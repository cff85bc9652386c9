"""The journal's record, and what its readers tell requests apart by."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evalrun_api.journal import Record, RequestKey, TokenUsage

pytestmark = pytest.mark.contract

IDENTITY: dict[str, Any] = {
    "group": "g0",
    "task": "mme",
    "request_type": "generate_until",
    "doc_id": 1,
    "idx": 0,
    "repeat": 0,
    "ordinal": 0,
    "round": 0,
}


def record(**changes: Any) -> Record:
    return Record(**{**IDENTITY, "fingerprint": "f" * 32, "response": "yes", **changes})


def test_the_key_of_a_record_is_its_request() -> None:
    assert record().key == RequestKey(**IDENTITY)
    assert set(IDENTITY) == set(RequestKey._fields)


@pytest.mark.parametrize("field", RequestKey._fields)
def test_records_that_differ_in_any_part_answer_different_requests(field: str) -> None:
    other = IDENTITY[field] + (1 if isinstance(IDENTITY[field], int) else "x")
    assert record(**{field: other}).key != record().key


@pytest.mark.parametrize(
    "change",
    [
        {"response": "no"},
        {"fingerprint": "0" * 32},
        {"error": "OutOfMemory"},
        {"attempts": 2},
        {"seconds": 1.5},
        {"tokens": TokenUsage(input=1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_answer_is_no_part_of_its_request(change: dict[str, Any]) -> None:
    assert record(**change).key == record().key
    assert record(**change) != record()


@given(
    st.text()
    | st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.booleans())
    | st.lists(st.text(), max_size=4)
)
def test_an_answer_survives_being_written_as_a_line(response: Any) -> None:
    written = record(response=list(response) if isinstance(response, tuple) else response)
    line = written.model_dump_json(by_alias=True, exclude_none=True)
    assert "\n" not in line
    assert Record.model_validate_json(line) == written


def test_a_line_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="surprise"):
        Record.model_validate({**record().document(), "surprise": 1})


def test_a_record_of_another_version_is_refused() -> None:
    with pytest.raises(ValidationError, match="1"):
        record(v=2)
