"""What the operator's log calls an error."""

from __future__ import annotations

import logging

import pytest

from evalrun_operator.logs import RetriesAreWarnings

pytestmark = pytest.mark.decisions

RETRY = "Request attempt #1/25 failed; will retry: GET https://server/apis -> 429"
GIVEN_UP = "Request attempt #25/25 failed; escalating: GET https://server/apis -> 429"


@pytest.mark.parametrize(
    ("logger", "text", "level"),
    [
        ("kopf._cogs.clients.watching", RETRY, "WARNING"),
        ("kopf._core.reactor.observation", RETRY, "WARNING"),
        ("kopf._cogs.clients.watching", GIVEN_UP, "ERROR"),
        ("evalrun_operator.watches", RETRY, "ERROR"),
    ],
)
def test_a_request_that_kopf_repeats_is_no_error(logger: str, text: str, level: str) -> None:
    record = logging.LogRecord(logger, logging.ERROR, "api.py", 1, text, (), None)
    assert RetriesAreWarnings().filter(record)
    assert record.levelname == level
    assert record.levelno == logging.getLevelNamesMapping()[level]
