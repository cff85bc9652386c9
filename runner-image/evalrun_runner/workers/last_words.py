"""What a dead worker's log says of its death, in a few lines: pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

MAX_LINE = 500
MAX_WORDS = 1200
TAIL_LINES = 12


def words(line: bytes) -> str:
    """What a line of a log says: the message of ours, all of any other's, nothing of routine."""
    text = line.decode(errors="replace").strip()
    if text.startswith("{"):
        with suppress(ValueError):
            entry = json.loads(text)
            if entry.get("level") in ("debug", "info"):
                return ""
            text = str(entry.get("message", text))
    return text[:MAX_LINE]


def last_words(lines: Sequence[str]) -> str:
    """The lines that tell most: of a crash the error and the newest frames, else the last ones.

    faulthandler prints the newest frame first, every other thread too, and a long list of modules.
    """
    said = [line for line in lines if not line.startswith("Extension modules:")]
    fatal = [at for at, line in enumerate(said) if line.startswith("Fatal Python error")]
    if fatal:
        crash = said[fatal[-1] :]
        current = [at for at, line in enumerate(crash) if line.startswith("Current thread")]
        told = [crash[0], *crash[current[0] if current else 1 :][:TAIL_LINES]]
    else:
        told = said[-TAIL_LINES:]
    return "\n".join(told)[:MAX_WORDS]
