"""Text that others wrote, made harmless for a terminal.

Messages of a status and lines of a log come from pods. A terminal obeys what it is sent: escape
sequences could move the cursor over other output, set the title or write into the keyboard's input.
"""

from __future__ import annotations

import re

_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS and the like, in a line
    r"|\x1b[@-~]?"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""All but tab and newline; with the marks that turn the direction of writing."""


def clean(text: str) -> str:
    """The text without control characters and escape sequences; lines and tabs stay."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))


def one_line(text: object, limit: int = 1024) -> str:
    """The same in one line of at most `limit` characters; nothing for None."""
    if text is None:
        return ""
    line = " ".join(clean(str(text)).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
