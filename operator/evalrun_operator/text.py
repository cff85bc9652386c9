"""Foreign text made fit for a status, an event and a terminal."""

from __future__ import annotations

from typing import Any

from evalrun_api.redaction import redacted

MAX_TEXT = 900


def tidy(text: Any, limit: int = MAX_TEXT) -> str:
    """The text without secrets and control characters, cut to `limit` characters.

    Secrets go before it is cut: half of one is still worth hiding, and no longer known by its form.
    Line ends stay. Half of a surrogate pair, which no JSON encoder of the API server takes, goes.
    """
    kept = "".join(
        character if character == "\n" or character.isprintable() else " "
        for character in redacted(str(text))[: limit * 2]
    )
    kept = kept.encode("utf-8", "ignore").decode().strip()
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"
