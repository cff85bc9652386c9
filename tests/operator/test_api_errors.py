"""What an answer of the API server, or of somebody on the way to it, is taken for."""

from __future__ import annotations

import asyncio
import json

import pytest
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException

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
from evalrun_operator.cluster import Cluster
from evalrun_operator.resources import RUNS
from evalrun_operator.transport import Transport

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
        (503, b"[" * 100_000, Unavailable),
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


def test_credentials_that_cannot_be_renewed_now_may_be_later() -> None:
    def renew(_: object) -> None:
        raise ConfigException("token SECRET-TOKEN-123 is empty")

    async def scene() -> None:
        configuration = Configuration(host="http://127.0.0.1:9", api_key={"BearerToken": "t"})
        configuration.refresh_api_key_hook = renew
        transport = Transport(configuration, lambda: None, lambda *_: None)
        try:
            await Cluster(transport).get(RUNS, "team", "one")
        finally:
            await transport.close()

    with pytest.raises(Unavailable) as error:
        asyncio.run(scene())
    assert "SECRET-TOKEN-123" not in str(error.value)
