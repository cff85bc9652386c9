"""What pods say cannot command a terminal."""

from __future__ import annotations

import pytest

from evalrun_cli.plain_text import clean, one_line

pytestmark = pytest.mark.decisions


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain, with ünïcode and\ttabs\nand lines", "plain, with ünïcode and\ttabs\nand lines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07after", "after"),
        ("\x1b]52;c;Y29weQ==\x1b\\after", "after"),
        ("\x1b]0;never ended", ""),
        ("\x1b]0;never ended\nthe next line", "\nthe next line"),
        ("over\rwritten\x08", "overwritten"),
        ("\x9b2Jcleared by one byte", "2Jcleared by one byte"),
        ("turned \u202eround\u2069", "turned round"),
        ("\x00\x07\x7f", ""),
    ],
)
def test_only_text_is_left(text: str, kept: str) -> None:
    assert clean(text) == kept


def test_one_line_is_one_line_and_no_longer_than_asked() -> None:
    assert one_line(" a\n b\t\x1b[2Jc ") == "a b c"
    assert one_line("abcdef", 4) == "abc…"
    assert one_line(None) == ""
    assert one_line(12) == "12"
