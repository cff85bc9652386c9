"""Durations that people write, ages as kubectl rounds them."""

from __future__ import annotations

import pytest

from evalrun_api.errors import Refused
from evalrun_cli.durations import age, moment, parse

pytestmark = pytest.mark.decisions


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("45", 45), ("0", 0)],
)
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert parse(text, "--timeout") == seconds


@pytest.mark.parametrize("text", ["", "-5m", "ten", "5x", "m", "1.5h", "30m1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is not a duration"):
        parse(text, "--timeout")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (3599, "59m"),
        (3 * 3600 + 120, "3h2m"),
        (9 * 3600, "9h"),
        (47 * 3600, "47h"),
        (50 * 3600, "2d2h"),
        (30 * 86400, "30d"),
        (800 * 86400, "2y"),
    ],
)
def test_an_age_is_rounded_as_kubectl_does(seconds: int, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize("text", [None, "soon", "2026-01-01", 5])
def test_what_is_no_moment_is_none(text: object) -> None:
    assert moment(text) is None
