"""A run that is nested as deep as the API server allows hinders no other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from world_documents import configuration, run_document

from evalrun_api import nesting
from evalrun_operator.api_errors import Unavailable
from evalrun_operator.decisions import Ledger, RunKey
from evalrun_operator.reconcile import reconcile
from evalrun_operator.store import Store
from evalrun_operator.transport import document_of

pytestmark = [
    pytest.mark.decisions,
    pytest.mark.skipif(
        sys.version_info[:2] == (3, 12), reason="its json module has a limit of its own"
    ),
]
LEVELS = nesting.API_SERVER_LEVELS - 10


@pytest.fixture(autouse=True)
def _limit() -> Iterator[None]:
    before = sys.getrecursionlimit()
    nesting.allow()
    yield
    sys.setrecursionlimit(before)


def deep_run(opening: str, closing: str) -> bytes:
    document = run_document()
    document["metadata"] |= {"uid": "run-1", "resourceVersion": "5"}
    document["spec"]["model"]["args"] = {"deep": "HERE"}
    return (
        json.dumps(document).replace('"HERE"', opening * LEVELS + "1" + closing * LEVELS).encode()
    )


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_run_nested_as_deep_as_can_be_is_read_and_refused(opening: str, closing: str) -> None:
    document = document_of(deep_run(opening, closing))
    store = Store(lambda pod: Ledger(), lambda: 0.0)
    key = store.put("EvaluationRun", document)
    assert key is not None
    observed = store.observe(key)
    assert observed is not None
    status = reconcile(observed, datetime(2026, 1, 1, tzinfo=UTC), configuration()).status
    assert status is not None
    assert status["phase"] == "Failed"
    assert "nested deeper than 16 levels" in str(status["conditions"])


def test_one_that_has_ended_is_kept_like_any_other() -> None:
    document = document_of(deep_run("[", "]"))
    document["status"] = {"completionTime": "2026-01-01T00:00:00Z"}
    store = Store(lambda pod: Ledger(), lambda: 0.0)
    key = store.put("EvaluationRun", document)
    assert key == RunKey("team", document["metadata"]["name"])
    assert store.observe(key) is not None


def test_an_answer_that_is_deeper_still_is_none() -> None:
    with pytest.raises(Unavailable):
        document_of(b"[" * 1_000_000)
