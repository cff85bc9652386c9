"""What is said of the framework's own requests while the operator stops."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import pytest

from evalrun_operator.operation import _at_the_end

pytestmark = pytest.mark.decisions


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ({"exception": aiohttp.ClientConnectionError("Connection closed")}, 0),
        ({"asyncgen": object(), "exception": RuntimeError()}, 0),
        ({"exception": RuntimeError("a defect")}, 1),
        ({"message": "a task was destroyed"}, 1),
    ],
)
def test_only_what_it_has_asked_for_in_vain_is_no_defect(
    context: dict[str, object], told: int, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.new_event_loop()
    with caplog.at_level(logging.ERROR):
        _at_the_end(loop, context)
    loop.close()
    assert len(caplog.records) == told
