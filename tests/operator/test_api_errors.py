"""What an answer of the API server, or of somebody on the way to it, is taken for."""

from __future__ import annotations

import json

import pytest

from evalrun_operator.api_errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Unavailable,
    error_of,
)

pytestmark = pytest.mark.decisions


def status(reason: str, kind: str = "Status") -> bytes:
    return json.dumps({"kind": kind, "reason": reason, "message": "told"}).encode()


@pytest.mark.parametrize(
    ("code", "body", "error"),
    [
        (404, status("NotFound"), NotFound),
        (404, status("NotFound", kind="Page"), Unavailable),
        (404, b"404 page not found\n", Unavailable),
        (404, b"<html>nginx</html>", Unavailable),
        (404, b"[]", Unavailable),
        (409, status("AlreadyExists"), AlreadyExists),
        (409, status("Conflict"), Conflict),
        (403, status("Forbidden"), Forbidden),
        (422, status("Invalid"), Invalid),
        (503, b"\xff", Unavailable),
    ],
)
def test_an_absence_is_believed_only_in_the_api_servers_own_words(
    code: int, body: bytes, error: type[ApiError]
) -> None:
    found = error_of("get", code, {}, body)
    assert type(found) is error
    assert found.code == code


@pytest.mark.parametrize(("text", "seconds"), [("3", 3.0), ("soon", None), ("²", None)])
def test_a_wait_that_is_asked_for_is_kept(text: str, seconds: float | None) -> None:
    found = error_of("get", 429, {"Retry-After": text}, b"")
    assert isinstance(found, Unavailable)
    assert found.retry_after == seconds
