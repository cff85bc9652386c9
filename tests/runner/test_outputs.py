"""What a backend returned comes back as the same Python value: lmms-eval tells kinds apart."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import journal_samples
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalrun_runner.journal.reading import Index
from evalrun_runner.stores import FolderStore

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

scalars = st.one_of(st.text(), st.booleans(), st.integers(), st.floats(), st.none())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text("abc"), inner, max_size=3),
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type, NaN included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float | np.floating):
        return bool(one == other and math.copysign(1, one) == math.copysign(1, other)) or (
            math.isnan(one) and math.isnan(other)
        )
    return bool(one == other)


def through_the_journal(output: Any) -> Any:
    from evalrun_api.journal import Record
    from evalrun_runner.harness.outputs import decode, encode

    response, usage = encode(output)
    record = Record(
        group="g0",
        task="t",
        request_type="generate_until",
        doc_id=0,
        idx=0,
        fingerprint="f",
        response=response,
        tokens=usage,
    )
    read = Record.model_validate_json(record.model_dump_json(by_alias=True, exclude_none=True))
    return decode(read.response, read.tokens)


@given(values)
def test_plain_values_survive(output: Any) -> None:
    assert same(through_the_journal(output), output)


@pytest.mark.parametrize(
    "output",
    [
        (-1.25, True),
        (np.float32(-0.1), np.bool_(True)),
        (np.float64(math.inf), False),
        ["first round", "second round"],
        math.nan,
        None,
        "half a pair \ud83d",
        np.int64(7),
    ],
)
def test_what_backends_return_for_each_request_type_survives(output: Any) -> None:
    assert same(through_the_journal(output), output)


def test_text_with_token_counts_survives() -> None:
    from lmms_eval.api.instance import GenerationResult, TokenCounts

    for output in (
        GenerationResult("red", TokenCounts(input_tokens=3, output_tokens=1)),
        GenerationResult("red", TokenCounts()),
        GenerationResult("red", None),
        GenerationResult(["one", "two"], None),  # type: ignore[arg-type]  # multi-round backends
    ):
        assert through_the_journal(output) == output


@pytest.mark.parametrize(
    ("reported", "kept"),
    [(7, 7), (np.int64(7), 7), (7.0, 7), (7.5, None), ("many", None), (math.inf, None), ([], None)],
)
def test_an_answer_survives_whatever_a_server_reports_of_its_tokens(
    reported: Any, kept: int | None
) -> None:
    from lmms_eval.api.instance import GenerationResult, TokenCounts

    given = GenerationResult("red", TokenCounts(reported, 1))
    assert through_the_journal(given) == GenerationResult("red", TokenCounts(kept, 1))


def test_what_has_no_form_is_refused() -> None:
    from evalrun_runner.harness.outputs import encode

    for output in (object(), {"$tuple": 1}, {1: 2}, [b"bytes"]):
        with pytest.raises(TypeError, match="an answer holds"):
            encode(output)


@pytest.mark.parametrize(
    ("output", "failure"),
    [
        ("", "Empty"),
        (" \n", "Empty"),
        (["", ""], "Empty"),
        ([], "Empty"),
        (None, "Empty"),
        (("", {"input_tokens": 0}), "Empty"),
        ("red", None),
        (["", "red"], None),
        ((0.0, False), None),
        ("[LMMS_EVAL_REQUEST_FAILED after 5 retries] connection refused", "RequestFailed"),
        ("[LMMS_EVAL_BUDGET_EXCEEDED]", "RequestFailed"),
        ("[GENERATION_FAILED] no frames", "RequestFailed"),
        ("Video /data/a.mp4 can not load, check the source", "RequestFailed"),
        ("Video games can not load, check the source code", None),
        (("", "red"), None),
        (("", ""), "Empty"),
        ((math.nan, False), "Empty"),
        ((np.float32("nan"), np.bool_(True)), "Empty"),
        ((-math.inf, False), None),
    ],
)
def test_what_fails_to_be_an_answer_is_recognised(output: Any, failure: str | None) -> None:
    from lmms_eval.api.instance import GenerationResult

    from evalrun_runner.harness.outputs import failure_of

    assert failure_of(output) == failure
    if isinstance(output, str):
        assert failure_of(GenerationResult(output)) == failure


def test_a_damaged_round_counts_as_not_answered(tmp_path: Path) -> None:
    from evalrun_runner.answering.conversations import Conversations

    store = FolderStore(tmp_path)
    sound = journal_samples.record(0).model_copy(update={"round": 1})
    for name, response in (("a", {"$tuple": 5}), ("b", {"$int64": "x"}), ("c", "well said")):
        journal_samples.put(store, name, sound.model_copy(update={"response": response}))
    nobody: Any = None
    setting: Any = SimpleNamespace(store=store)
    held = Conversations(setting, journal_samples.PREFIX, nobody, nobody, nobody, nobody)
    (found,) = held._journaled(sound.task).values()
    assert found.response == "well said"


def test_a_conversation_that_failed_is_told_of_while_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evalrun_runner.answering import conversations

    ended = journal_samples.record(0).model_copy(update={"error": "BackendError"})
    monkeypatch.setattr(conversations.Conversation, "hold", lambda *_: ended)
    setting, writer, index = MagicMock(), MagicMock(), Index()
    setting.store = FolderStore(tmp_path)
    held = conversations.Conversations(setting, "", index, MagicMock(), writer, MagicMock())
    held.hold(journal_samples.request(0))
    writer.append.assert_called_once_with([ended])
    setting.report.computed.assert_called_once_with("t", 1)
    setting.report.failed.assert_called_once_with("BackendError")


def test_the_score_of_a_group_counts_the_invalid_answers_of_its_tasks(tmp_path: Path) -> None:
    from evalrun_runner.harness.results import headline_scores

    results = {
        "results": {name: {"acc,none": 0.5} for name in ("all", "half", "a", "b", "c")},
        "group_subtasks": {"all": ["half", "c"], "half": ["a", "b"], "a": [], "b": [], "c": []},
    }
    lock: Any = SimpleNamespace(tasks=[SimpleNamespace(name=n, documents=9) for n in "abc"])
    scores = headline_scores(results, lock, Counter(a=1, b=2, c=4), tmp_path)
    invalid = {score.benchmark: score.invalid for score in scores}
    assert invalid == {"all": 7, "half": 3, "a": 1, "b": 2, "c": 4}
