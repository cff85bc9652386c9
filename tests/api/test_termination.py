"""The termination message, of which the kubelet keeps 4096 bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from evalrun_api.plan import RunIdentity
from evalrun_api.status import Score
from evalrun_api.termination import MAX_TERMINATION_BYTES, TerminationMessage

pytestmark = pytest.mark.contract

RUN = RunIdentity(namespace="n" * 253, name="r" * 50, uid="u" * 64)
# Control characters take six bytes in JSON, an emoji four: the worst that a log line can bring.
hostile = st.text(st.sampled_from('\x00\x1f\\"é€😀a\n'), max_size=64)


def filled(size: int) -> st.SearchStrategy[str]:
    """Texts of any length up to a size; built from a short piece, so that long ones are cheap."""
    return st.tuples(hostile, st.integers(0, size)).map(
        lambda parts: (parts[0] * (size // max(len(parts[0]), 1) + 1))[: parts[1]]
    )


names = filled(1024).map(lambda text: text or "x")
scores = st.builds(Score, benchmark=names, metric=names, filter=names, value=filled(32))


def message(**fields: Any) -> TerminationMessage:
    return TerminationMessage(
        run=RUN, step="score", outcome="Failed", reason="InternalError", **fields
    )


@given(
    text=filled(2048),
    uri=st.none() | filled(1024),
    digest=st.none() | filled(64),
    entries=st.lists(scores, max_size=10),
)
@settings(max_examples=150, deadline=None)
def test_whatever_a_message_holds_it_fits_and_can_be_read(
    text: str, uri: str | None, digest: str | None, entries: list[Score]
) -> None:
    full = message(message=text, results_uri=uri, results_digest=digest, scores=entries)
    raw = full.encode()
    assert len(raw) <= MAX_TERMINATION_BYTES
    back = TerminationMessage.model_validate_json(raw)
    assert (back.run, back.step, back.outcome, back.reason) == (RUN, "score", "Failed", full.reason)
    assert full.message.startswith(back.message)
    assert full.scores[: len(back.scores)] == back.scores


def test_a_message_that_fits_is_left_as_it_is() -> None:
    score = Score(benchmark="mme", metric="acc", value="0.5")
    full = message(message="m" * 500, results_uri="s3://b/m.json", scores=[score])
    assert TerminationMessage.model_validate_json(full.encode()) == full


def test_scores_go_before_the_text_and_the_text_before_the_address() -> None:
    score = Score(benchmark="b" * 900, metric="m", value="1")
    no_room = message(message="m" * 2048, results_uri="u" * 1024, scores=[score] * 10)
    back = TerminationMessage.model_validate_json(no_room.encode())
    assert back.scores == []
    assert back.message == "m" * 2048
    bulky = message(message="\x00" * 2048, results_uri="u" * 1024)
    back = TerminationMessage.model_validate_json(bulky.encode())
    assert 0 < len(back.message) < 2048
    assert back.results_uri == "u" * 1024
    worst = message(message="\x00" * 2048, results_uri="\x00" * 1024)
    back = TerminationMessage.model_validate_json(worst.encode())
    assert (back.message, back.results_uri) == ("", None)


def test_names_are_camel_case_for_whoever_reads_them() -> None:
    raw = json.loads(message(answers_digest="a" * 64).encode())
    assert raw["answersDigest"] == "a" * 64
    assert "resultsUri" not in raw
    assert "trusted" not in raw
    ended = json.loads(message(trusted=False, determinism="Sampled").encode())
    assert (ended["trusted"], ended["determinism"]) == (False, "Sampled")


@pytest.mark.parametrize(
    "change",
    [
        {"reused": -1},
        {"computed": 2**53 + 1},
        {"outcome": "Fine"},
        {"message": "m" * 2049},
        {"scores": [{}] * 11},
        {"surprise": 1},
        {"version": 2},
        {"determinism": "Perhaps"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_message_that_is_not_as_agreed_is_refused(change: dict[str, Any]) -> None:
    raw = json.loads(message().encode()) | change
    with pytest.raises(ValidationError):
        TerminationMessage.model_validate(raw)
